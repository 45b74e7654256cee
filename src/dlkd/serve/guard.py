"""What stands before the app: who may ask it, and how a request that is refused early ends."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from dlkd.serve.replies import error_response

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of every answer that does not say otherwise."""
LINGER_BYTES, LINGER_SECONDS = 1 << 25, 2.0
"""So much of a refused upload is thrown away at most, before the connection is closed."""

Message = MutableMapping[str, Any]


class Guard:
    """Refuses requests under names that are not the server's, and uploads that pages of others send.

    The first is DNS rebinding: a stranger's name that leads to this machine. The second is what a browser does for any
    page that it shows; it says so in ``Origin``.

    Args:
        app: what is guarded.
        hosts: names that the server goes by; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self._problem(scope["method"], Headers(scope=scope))
        answer = self.app if problem is None else error_response(*problem)
        await answer(scope, receive, with_headers)

    def _problem(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and _name(f"//{host}") not in self.hosts:
            return 400, f"expected a request to {' or '.join(sorted(self.hosts))}, but its Host is {host[:80]!r}"
        if method not in ("GET", "HEAD") and origin is not None and _place(origin) != host.lower():
            return 403, f"expected a request from the page of this server, but its Origin is {origin[:80]!r}"
        return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


class Lingering:
    """An answer to a request that was not read to its end reaches the client.

    Who still sends when a connection is closed may never see the answer. So what comes after it is thrown away for a
    while, and the connection is not used again.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

        async def received() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            if not unread or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            dropped = 0
            with anyio.move_on_after(LINGER_SECONDS):
                while unread and dropped < LINGER_BYTES:
                    dropped += len((await received()).get("body", b""))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app(scope, received, sent)
