"""What was uploaded, as a picture, or one line why not."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from dlkd.data.pixels import FORMATS, decode
from dlkd.errors import first_line, printable


class Refused(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        message: one line: what was expected and what was found.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, printable(" ".join(message.split()))


def open_picture(content: bytes, max_pixels: int) -> Image.Image:
    """The (first) image of an encoded file, upright and in RGB. Its size is looked at before its pixels are decoded.

    Raises:
        Refused: no bytes or damaged (400), too many pixels (413), or in no known format (415).
    """
    if not content:
        raise Refused(400, "expected a picture, but the upload has no bytes")
    file = io.BytesIO(content)
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
        if width * height > max_pixels:
            raise Refused(
                413, f"expected a picture of at most {max_pixels:,} pixels, but got one of {width:,} × {height:,}"
            )
        file.seek(0)
        return decode(file)
    except Refused:
        raise
    except UnidentifiedImageError as error:
        raise Refused(
            415, f"expected a picture ({', '.join(FORMATS)}), but the upload is in no known format"
        ) from error
    except Image.DecompressionBombError as error:
        raise Refused(413, f"expected a picture of at most {max_pixels:,} pixels, but got more") from error
    except Exception as error:  # every decoder of Pillow fails in its own way
        raise Refused(400, f"expected a picture, but this one is damaged ({first_line(error):.200})") from error
