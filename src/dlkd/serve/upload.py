"""The bytes of an uploaded picture, never more of them in memory than are allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from dlkd.serve.picture import Refused

FIELD = "image"
ENVELOPE = 1 << 16
"""Bytes of a form that are not the picture."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


async def uploaded(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The field ``image`` of a form (``multipart/form-data``), or the whole body of any other request.

    Raises:
        Refused: more than ``max_bytes`` (413), as soon as they are declared or have come; not within ``seconds`` (408);
            no such field, or a body that breaks off (400).
    """
    form = request.headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data"
    most = max_bytes + (ENVELOPE if form else 0)
    if int(request.headers.get("content-length", 0)) > most:
        raise _too_large(max_bytes)
    limited = Request(request.scope, _at_most(most, request.receive, max_bytes))
    try:
        with anyio.fail_after(seconds):
            content = await _of_form(limited, max_bytes) if form else await limited.body()
    except TimeoutError as error:
        raise Refused(408, f"expected the picture within {seconds:g} seconds, but it was not whole by then") from error
    except ClientDisconnect as error:
        raise Refused(400, "the connection was closed before the picture was whole") from error
    except FormParserError as error:
        raise Refused(400, "expected a form, but the body is none") from error
    return content


def _at_most(most: int, receive: Receive, max_bytes: int) -> Receive:
    """``receive``, until more than ``most`` bytes have come: a length that was declared may be a lie, or missing."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(max_bytes)
        return message

    return counted


async def _of_form(request: Request, max_bytes: int) -> bytes:
    async with request.form(max_files=1, max_fields=16, max_part_size=ENVELOPE) as fields:
        file = fields.get(FIELD)
        if not isinstance(file, UploadFile):
            raise Refused(400, f"expected a file in the field {FIELD} of the form, as curl -F {FIELD}=@photo.jpg sends")
        content = await file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    return content


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"expected a picture of at most {max_bytes:,} bytes, but got more")
