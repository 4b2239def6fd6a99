"""What the gateway answers to plain HTTP: the page, liveness, readiness, metrics; and which browsers may connect at all.

Knows nothing of streams. Runs in the gateway.
"""

import http
import ipaddress
import json
from collections.abc import Collection
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from diart_mp.errors import UsageError
from diart_mp.web.protocol import ClientError, Code
from diart_mp.web.tokens import SINGLE_USE_S, Tokens

_PORTS = {"http": 80, "https": 443}
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


def respond(status: int, body: bytes, kind: str = "text/plain; charset=utf-8", **more: str) -> Response:
    """A whole answer, after which the connection is closed; ``more``: headers beside the usual ones, or in their place."""
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": _POLICY,
            **{name.replace("_", "-"): value for name, value in more.items()},
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


def token_for_one(request: Request, tokens: Tokens) -> Response:
    """A token for one connection, for who shows a lasting one in the header (``POST /v1/sessions``)."""
    if request.method != "POST":
        return respond(405, b"ask with POST\n", Allow="POST")
    try:
        answer = {"token": tokens.issue(_shown_in_header(request)), "expires_in": SINGLE_USE_S}
    except ClientError as error:
        return refuse(error)
    return respond(201, json.dumps(answer).encode(), "application/json", Cache_Control="no-store")


def refuse(error: ClientError) -> Response:
    """The answer to a request without a good token, or with one of which too much is asked."""
    body = json.dumps(error.to_message()).encode()
    if error.code == Code.UNAUTHORIZED:
        return respond(401, body, "application/json", WWW_Authenticate="Bearer")
    return respond(429, body, "application/json")


def is_upgrade(request: Request) -> bool:
    """Whether a request wants to become a WebSocket."""
    return "websocket" in ",".join(request.headers.get_all("Upgrade")).lower()


def parse_origin(text: str) -> str:
    """An origin as browsers say it (``https://talk.example.org``); UsageError for anything else."""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        msg = f"{text!r:.100} is no origin; say it as browsers do: https://talk.example.org, with a port if it has one"
        raise UsageError(msg)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def foreign(request: Request, *, local_only: bool, origins: Collection[str] = ()) -> str:
    """Why a request comes from a page of somebody else, empty if it does not.

    A browser lets any page connect to any address, this machine's own ones included: so the page must be ours
    (its origin is the host that it asks). ``local_only``: a name that some other host made point here is refused, too.
    ``origins``: where a proxy shows our page, too.
    """
    host = ",".join(request.headers.get_all("Host"))
    said = request.headers.get_all("Origin")
    if any(origin.lower() not in origins and urlsplit(origin).netloc.lower() != host.lower() for origin in said):
        return f"a page of {','.join(said)!r:.100} may not use this server; if a proxy shows its page there: serve --origin"
    if local_only and not _is_local(host) and host.lower() not in {urlsplit(origin).netloc for origin in origins}:
        return f"this server is for this machine, not for {host!r:.100}; use http://localhost or http://127.0.0.1"
    return ""


def bearer(request: Request) -> str:
    """The token that a request shows, in its header or, since browsers cannot set one, in its address."""
    found = parse_qs(urlsplit(request.path).query).get("token", [""])
    return _shown_in_header(request) or found[0]


def _shown_in_header(request: Request) -> str:
    for value in request.headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() in ("bearer", "token"):
            return token.strip()
    return ""


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
