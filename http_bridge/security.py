"""Who may ask, what a browser may do with an answer, and the last word on every error."""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from http_bridge.refusals import Refusal, as_refusal, refused

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN = {"/healthz", "/readyz", "/sign-in", "/assets/style.css"}
"""Paths that ask for no token: health, and the door."""

COOKIE = "imagetools"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    # with no-referrer, a form of this very page would say that its origin is null
    "Referrer-Policy": "same-origin",
    # which versions run is nobody's business
    "Server": "imagetools",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Security headers, on every answer; and the envelope for what aiohttp refuses before any middleware."""
    if isinstance(response, web.HTTPException) and response.status >= 400:
        envelope = refused(Refusal(response.status, response.text or response.reason))
        response.body = envelope.body
        response.headers.update({"Content-Type": "application/json", "Content-Length": str(envelope.content_length)})
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as the contracts' envelope; a fault of ours is logged, and told without its inside."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except Exception as exc:
        refusal = as_refusal(exc)
        if isinstance(exc, ConnectionError) and request.transport is None:
            refusal = Refusal(400, "the client left before it was served")
        if refusal is None:
            log.exception("a fault while serving %s", request.path)
            refusal = Refusal(500, "a fault of the bridge; its log says more")
        return refused(refusal)


def as_bytes(text: str) -> bytes:
    """A header's or a variable's text as the bytes that it came as, whatever their encoding."""
    return text.encode("utf-8", "surrogateescape")


def session_of(token: str) -> str:
    """What a browser's cookie holds in place of the token."""
    return hmac.new(as_bytes(token), b"imagetools page", hashlib.sha256).hexdigest()


def guard(token: str | None, *, loopback: bool) -> Middleware:
    """Let in who may come.

    token     asked as a bearer, or of a browser as the cookie of /sign-in; None: of nobody
    loopback  the bridge listens on this machine alone
    A web page of another origin may change nothing, and without a token reach nothing on a loopback address by a name
    that its owner made resolve there.
    """
    session = session_of(token) if token else ""

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and _authority(origin) != request.host:
            raise Refusal(403, f"pages of {origin[:200]} may not ask here")
        if token is None:
            if loopback and not _is_here(request.host):
                raise Refusal(403, "without BRIDGE_TOKEN this address is asked by number or as localhost only")
            return await handler(request)
        if request.path in OPEN or _knows(request, token, session):
            return await handler(request)
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            raise web.HTTPSeeOther("/sign-in")
        raise Refusal(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return let_in


def _knows(request: web.Request, token: str, session: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(as_bytes(given.strip()), as_bytes(token)):
        return True
    return hmac.compare_digest(as_bytes(request.cookies.get(COOKIE, "")), session.encode())


def _authority(origin: str) -> str | None:
    """The host and port in an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_here(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
