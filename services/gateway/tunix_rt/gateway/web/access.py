"""Who may see the page, and the headers that keep browsers safe."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.web.pages import Pages
from tunix_rt.rpc.errors import Unauthenticated

COOKIE = "tunix_rt_token"
_OPEN_PATHS = ("/sign-in", "/static/")
_FORM_BYTES = 4096
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


class HeadersMiddleware:
    """Adds a strict content policy to every answer: nothing from elsewhere is loaded or run."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)  # an answer may be stricter
            await send(message)

        await self._app(scope, receive, send_with_headers)


class AccessMiddleware:
    """Asks for a token, as a bearer header or from the sign-in cookie, where the gate has one."""

    def __init__(self, app: ASGIApp, gate: TokenGate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or self._gate.open or scope["path"].startswith(_OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        response = self._refusal(Request(scope))
        await (response or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        cookie = request.cookies.get(COOKIE)
        try:
            self._gate.check(request.headers.get("authorization") or (f"Bearer {cookie}" if cookie else None))
        except Unauthenticated as error:
            if request.url.path.startswith("/api/"):
                return JSONResponse({"code": 16, "message": error.message}, status_code=401)
            return RedirectResponse("/sign-in", status_code=303)
        return None


class SignIn:
    """The form that takes a token and keeps it in a cookie that scripts cannot read."""

    def __init__(self, pages: Pages, gate: TokenGate) -> None:
        self._pages = pages
        self._gate = gate

    async def form(self, request: Request) -> Response:
        """Shows the form."""
        del request
        return self._pages.page("sign_in.html", wrong=False)

    async def submit(self, request: Request) -> Response:
        """Checks the token."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _FORM_BYTES:
                return self._pages.page("sign_in.html", status_code=400, wrong=True)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not self._gate.accepts(token):
            return self._pages.page("sign_in.html", status_code=401, wrong=True)
        response = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return response
