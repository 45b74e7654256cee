"""Every image opened once before a run."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from dlkd.data.pixels import FilePixels
from dlkd.data.samples import Samples
from dlkd.errors import UserError


def verify_images(*parts: Samples) -> None:
    """Decode every image; those in memory were decoded before.

    Raises:
        UserError: in one line, how many cannot be read, and the first of them.
    """
    bad: list[str] = []
    for samples in parts:
        pixels = samples.pixels
        if isinstance(pixels, FilePixels):
            # Decoders release the interpreter; the objects of others may not bear several threads.
            with ThreadPoolExecutor(os.cpu_count() if type(pixels) is FilePixels else 1) as threads:
                found = threads.map(_reason, repeat(pixels), range(len(pixels)))
                bad += [reason for reason in found if reason is not None]
    if bad:
        raise UserError(bad[0] + (f" ({len(bad)} such images in all)" if len(bad) > 1 else ""))


def _reason(pixels: FilePixels, position: int) -> str | None:
    try:
        pixels.load(position)
    except UserError as error:
        return str(error)
    return None
