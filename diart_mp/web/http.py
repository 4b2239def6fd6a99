"""What the gateway answers to plain HTTP: the page, liveness, readiness, metrics; and which browsers may connect at all.

Knows nothing of streams. Runs in the gateway.
"""

import http
import ipaddress
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGES = {
    "/": "index.html",
    "/page.js": "page.js",
    "/timeline.js": "timeline.js",
    "/known.js": "known.js",
    "/stream.js": "stream.js",
    "/recorder.js": "recorder.js",
}
_PAGES |= {"/formats.js": "formats.js", "/page.css": "page.css", "/favicon.svg": "favicon.svg"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def respond(status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    """A whole answer, after which the connection is closed."""
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": _POLICY,
        }
    )
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


def page(path: str) -> Response | None:
    """A file of the page; None if there is none of that name."""
    name = _PAGES.get(path)
    if name is None:
        return None
    body = resources.files("diart_mp.web").joinpath("page", name).read_bytes()
    return respond(200, body, _TYPES[name.rpartition(".")[2]])


def is_upgrade(request: Request) -> bool:
    """Whether a request wants to become a WebSocket."""
    return "websocket" in ",".join(request.headers.get_all("Upgrade")).lower()


def foreign(request: Request, *, local_only: bool) -> str:
    """Why a request comes from a page of somebody else, empty if it does not.

    A browser lets any page connect to any address, this machine's own ones included: so the page must be ours
    (its origin is the host that it asks). ``local_only``: a name that some other host made point here is refused, too.
    """
    host = ",".join(request.headers.get_all("Host"))
    origins = request.headers.get_all("Origin")
    if any(urlsplit(origin).netloc.lower() != host.lower() for origin in origins):
        return f"a page of {','.join(origins)!r:.100} may not use this server"
    if local_only and not _is_local(host):
        return f"this server is for this machine, not for {host!r:.100}; use http://localhost or http://127.0.0.1"
    return ""


def bearer(request: Request) -> str:
    """The token that a request shows, in its header or, since browsers cannot set one, in its address."""
    for value in request.headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() in ("bearer", "token"):
            return token.strip()
    found = parse_qs(urlsplit(request.path).query).get("token", [""])
    return found[0]


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
