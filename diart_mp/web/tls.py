"""The TLS of the gateway. Runs in the gateway; the command checks its files with it."""

import ssl

from diart_mp.errors import UsageError


def make_tls(cert: str, key: str) -> ssl.SSLContext | None:
    """The context of a certificate and its key, None without a certificate; UsageError for files that are none."""
    if not cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key or None)
    except (OSError, ssl.SSLError) as error:
        msg = f"cannot use the certificate {cert} with the key {key or cert}: {error.strerror or error}"
        raise UsageError(msg) from error
    return context
