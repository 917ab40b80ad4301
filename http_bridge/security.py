"""Access control, security headers, and the translation of every error into a response."""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from http_bridge.errors import HttpError, as_http_error
from http_bridge.responses import error_response

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PUBLIC_PATHS = {"/healthz", "/readyz", "/sign-in", "/assets/style.css", "/assets/icon.svg", "/favicon.ico"}
"""Served without a token."""

SESSION_COOKIE = "imagetools"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    # with no-referrer, the sign-in form would send "Origin: null"
    "Referrer-Policy": "same-origin",
    # does not reveal versions
    "Server": "imagetools",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add security headers to every response, and the envelope to errors that aiohttp raises before any middleware."""
    if isinstance(response, web.HTTPException) and response.status >= 400:
        envelope = error_response(HttpError(response.status, response.text or response.reason))
        response.body = envelope.body
        response.headers.update({"Content-Type": "application/json", "Content-Length": str(envelope.content_length)})
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond to every error in the contracts' envelope; log a fault of the bridge, and hide its details."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except Exception as exc:
        error = as_http_error(exc)
        if isinstance(exc, ConnectionError) and request.transport is None:
            error = HttpError(400, "the client left before it was served")
        if error is None:
            log.exception("a fault while serving %s", request.path)
            error = HttpError(500, "a fault of the bridge; its log says more")
        return error_response(error)


def as_bytes(text: str) -> bytes:
    """Return the bytes that a header's or a variable's text was decoded from, whatever their encoding."""
    return text.encode("utf-8", "surrogateescape")


def session_value(token: str) -> str:
    """Return the value of a signed-in browser's cookie, from which the token cannot be recovered."""
    return hmac.new(as_bytes(token), b"imagetools page", hashlib.sha256).hexdigest()


def access_control(token: str | None, *, loopback: bool) -> Middleware:
    """Make the middleware that decides who may send requests.

    token     required as a bearer token, or as the cookie of /sign-in; None: not required
    loopback  the bridge listens on a loopback address only
    Pages of other origins are always rejected. Without a token, a loopback address is only served by its number or as
    localhost: another name may be an attacker's that resolves to it (DNS rebinding).
    """
    session = session_value(token) if token else ""

    @web.middleware
    async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and _authority(origin) != request.host:
            raise HttpError(403, f"pages of {origin[:200]} may not ask here")
        if token is None:
            if loopback and not _is_local(request.host):
                raise HttpError(
                    403, "without BRIDGE_TOKEN, this address is served under its number or as localhost only"
                )
            return await handler(request)
        if request.path in PUBLIC_PATHS or _is_authenticated(request, token, session):
            return await handler(request)
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            raise web.HTTPSeeOther("/sign-in")
        raise HttpError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check_access


def _is_authenticated(request: web.Request, token: str, session: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(as_bytes(given.strip()), as_bytes(token)):
        return True
    return hmac.compare_digest(as_bytes(request.cookies.get(SESSION_COOKIE, "")), session.encode())


def _authority(origin: str) -> str | None:
    """Return an origin's host and port; None if it is not valid."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_local(host: str) -> bool:
    """Say whether a Host header is localhost or an address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
