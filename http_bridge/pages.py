"""The HTML pages and their files, all from the package."""

import hmac
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from http_bridge.bodies import read_body
from http_bridge.security import SESSION_COOKIE, as_bytes, session_value

CONTENT_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
SESSION_S: Final = 30 * 24 * 60 * 60
MAX_FORM_BYTES: Final = 4096


def load_assets() -> dict[str, bytes]:
    """Read every asset, by name."""
    return {
        entry.name: entry.read_bytes()
        for entry in files("http_bridge.assets").iterdir()
        if entry.name.rpartition(".")[2] in CONTENT_TYPES
    }


class Pages:
    """Serves the pages; `token` is what a browser signs in with."""

    def __init__(self, token: str | None) -> None:
        self._assets = load_assets()
        self._token = token

    def serve(self, name: str, status: int = 200) -> web.Response:
        """Respond with one asset; HTTPNotFound."""
        data = self._assets.get(name)
        if data is None:
            raise web.HTTPNotFound
        content_type = CONTENT_TYPES[name.rpartition(".")[2]]
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=data, status=status, content_type=content_type, charset="utf-8", headers=headers)

    async def home(self, _: web.Request) -> web.Response:
        """Handle GET /."""
        return self.serve("index.html")

    async def alerts(self, _: web.Request) -> web.Response:
        """Handle GET /alerts."""
        return self.serve("alerts.html")

    async def dead_letters(self, _: web.Request) -> web.Response:
        """Handle GET /dead-letters."""
        return self.serve("dead-letters.html")

    async def docs(self, _: web.Request) -> web.Response:
        """Handle GET /docs."""
        return self.serve("docs.html")

    async def asset(self, request: web.Request) -> web.Response:
        """Handle GET /assets/{name}."""
        return self.serve(request.match_info["name"])

    async def icon(self, _: web.Request) -> web.Response:
        """Handle GET /favicon.ico, which browsers ask for beside pages that name no icon."""
        return self.serve("icon.svg")

    async def sign_in_form(self, _: web.Request) -> web.Response:
        """Handle GET /sign-in."""
        return self.serve("sign-in.html")

    async def sign_in(self, request: web.Request) -> web.Response:
        """Handle POST /sign-in: set the session cookie if the token is right."""
        form = parse_qs((await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace"))
        given = form.get("token", [""])[0]
        if self._token is None or not hmac.compare_digest(given.encode(), as_bytes(self._token)):
            return self.serve("sign-in-wrong.html", 401)
        response = web.Response(status=303, headers={"Location": "/"})
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        response.set_cookie(
            SESSION_COOKIE,
            session_value(self._token),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=secure,
        )
        return response
