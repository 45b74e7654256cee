"""The app: a page, an endpoint for pictures, and one that says that all is well."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dlkd.errors import first_line, printable
from dlkd.serve.answer import Answerer
from dlkd.serve.guard import Guard, Lingering
from dlkd.serve.page import render
from dlkd.serve.picture import Refused
from dlkd.serve.replies import Json, error_response
from dlkd.serve.upload import uploaded


@dataclass
class Site:
    """What is asked, and within which limits.

    Args:
        answer: the models.
        title: the name of the model.
        max_bytes: of an upload.
        concurrency: pictures that are looked at side by side.
        waiting: others that are taken in meanwhile.
        seconds: within which a picture has to come.
    """

    answer: Answerer
    title: str
    max_bytes: int
    concurrency: int
    waiting: int
    seconds: float
    inside: int = field(default=0, init=False)
    limiter: anyio.CapacityLimiter | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        teacher = self.answer.teacher
        self._page = render(
            self.title,
            max_bytes=self.max_bytes,
            teacher=teacher is not None,
            ranked=teacher is not None and teacher.ranks,
            notes=self.answer.notes,
        )

    async def page(self, request: Request) -> Response:
        """The page for people."""
        text, policy = self._page
        return HTMLResponse(text, headers={"content-security-policy": policy})

    async def health(self, request: Request) -> Response:
        """What is served."""
        return Json(
            {
                "status": "ok",
                "model": self.title,
                "classes": len(self.answer.class_names),
                "teacher": self.answer.teacher is not None,
                "notes": list(self.answer.notes),
            }
        )

    async def predict(self, request: Request) -> Response:
        """What is said of a picture.

        Raises:
            Refused: there are too many, or it is none.
        """
        if self.inside >= self.concurrency + self.waiting:
            raise Refused(503, f"{self.inside} pictures are being looked at or wait for it; try again in a moment")
        self.inside += 1
        try:
            content = await uploaded(request, self.max_bytes, self.seconds)
            # Made here: it belongs to the event loop.
            self.limiter = self.limiter or anyio.CapacityLimiter(self.concurrency)
            return Json(await anyio.to_thread.run_sync(self._asked, content, limiter=self.limiter))
        finally:
            self.inside -= 1

    def _asked(self, content: bytes) -> dict[str, object]:
        try:
            return self.answer(content)
        except Refused:
            raise
        except Exception as error:  # a model of the user's own raises whatever it likes, and the next picture may do
            message = f"the model failed on this picture: {type(error).__name__}: {first_line(error):.200}"
            print(f"problem: {printable(message)}", file=sys.stderr, flush=True)
            raise Refused(500, message) from error


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_response(error.status, error.message, {"retry-after": "1"} if error.status == 503 else None)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, error.headers)


def make_app(site: Site, hosts: Sequence[str] | None) -> Starlette:
    """``GET /``, ``GET /health`` and ``POST /predict``; every error is JSON of one line.

    Args:
        site: what answers.
        hosts: names that the server goes by; None for any.
    """
    names = None if hosts is None else frozenset(name.lower() for name in hosts)
    return Starlette(
        routes=[
            Route("/", site.page, methods=["GET"]),
            Route("/health", site.health, methods=["GET"]),
            Route("/predict", site.predict, methods=["POST"]),
        ],
        middleware=[Middleware(Lingering), Middleware(Guard, hosts=names)],
        exception_handlers={Refused: _refused, HTTPException: _no_such_page},
    )
