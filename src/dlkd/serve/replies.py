"""JSON that holds any name, and errors of one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


class Json(JSONResponse):
    """In ASCII: a class may be named after a folder whose name is no text."""

    def render(self, content: Any) -> bytes:
        """The bytes of ``content``."""
        return json.dumps(content, allow_nan=False).encode("ascii")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Json:
    """``{"error": message}``."""
    return Json({"error": message}, status, headers)
