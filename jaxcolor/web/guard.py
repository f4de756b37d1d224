"""What stands before every request: it must come from this machine's own page, and not be larger than it may.

A page of another site that is open in the same browser can send requests to 127.0.0.1. ``Host`` gives away names that
were made to point here (DNS rebinding), ``Origin`` and ``Sec-Fetch-Site`` requests of other pages. Programs such as
curl send neither of the last two, and are let in.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAMES = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Of every answer."""


class TooLargeError(Exception):
    """A request's body is longer than it may be."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        """``most_bytes``: of a request's body."""
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await _answer(send_with_headers, *refused)
            return
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise TooLargeError
            return message

        try:
            await self._app(scope, receive_some, send_with_headers)
        except TooLargeError:
            if started:
                raise
            await _answer(send_with_headers, *self._too_large())

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in (b"host", b"origin"):
                return 400, f"{name.decode()} is given twice"
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1")
        if _without_port(host) not in _NAMES:
            return 421, "this server answers to 127.0.0.1 and localhost alone"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != f"http://{host}":
            return 403, "requests of other sites are refused"
        opens_page = scope["method"] == "GET" and scope["path"] == "/"  # a link to the page may stand anywhere
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not opens_page:
            return 403, "requests of other sites are refused"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return 400, "content-length is no number"
        return self._too_large() if int(length) > self._most else None

    def _too_large(self) -> tuple[int, str]:
        return 413, f"larger than {self._most / (1 << 20):.0f} MiB, which is the most that is taken"


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode() + b"\n"
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
