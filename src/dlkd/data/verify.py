"""Files that are no images, or half of one, found before a run begins and not in its third hour."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Literal, TypeVar

import numpy as np

from dlkd.data.pixels import FilePixels, Indices, UnreadError
from dlkd.data.samples import Samples
from dlkd.errors import UserError

Said = TypeVar("Said")
Verify = bool | Literal["auto", "skip"]
"""Decode no image before the run, each, those whose first and last bytes look wrong, or each and go on without the
damaged ones."""
BLOCK = 10_000
"""Images that wait for a thread at a time: each takes 2 kB of memory until it is looked at."""
TAIL = 4096
"""Bytes at the end of a file in which its format's end has to stand: cameras write more behind it."""
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"P", b"\0\0\0\x0cjP  ")
"""First bytes of the formats that are read."""
ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND"}
"""What stands at the end of a whole file, by its first bytes; others say nothing there."""


def damaged(parts: Sequence[Samples], how: Verify) -> tuple[list[Indices], list[str]]:
    """Positions of the damaged images of each part, to be left out, and what there is to say of them.

    Args:
        parts: images, looked at as ``how`` says.

    Raises:
        UserError: in one line, how many are damaged, and the first of them; or one that the machine could not read
            (UnreadError), which is never left out.
    """
    if how is False:
        return [np.empty(0, np.int64) for _ in parts], []
    bad = [_damaged(part, quick=how == "auto") for part in parts]
    reasons = [reason for found in bad for reason in found.values()]
    positions = [np.array([*found], np.int64) for found in bad]
    if not reasons:
        return positions, []
    count = f" ({len(reasons)} such images in all)" if len(reasons) > 1 else ""
    if how != "skip":
        raise UserError(f"{reasons[0]}, or leave out what is damaged by --data.verify skip{count}")
    were = "damaged image was" if len(reasons) == 1 else "damaged images were"
    return positions, [f"{len(reasons)} {were} left out, the first: {reasons[0]}"]


def without(samples: Samples, bad: Indices, *parts: Indices) -> tuple[Samples, list[Indices]]:
    """``samples`` without those at ``bad``, and where those at the positions ``parts`` are then."""
    if not len(bad):
        return samples, [*parts]
    kept = np.delete(np.arange(len(samples)), bad)
    return samples.take(kept), [np.searchsorted(kept, part[np.isin(part, kept)]) for part in parts]


def _damaged(samples: Samples, *, quick: bool) -> dict[int, str]:
    """Reasons by position. Images in memory were decoded before; objects of others have no bytes to look at."""
    pixels = samples.pixels
    own = type(pixels) is FilePixels
    if not isinstance(pixels, FilePixels) or (quick and not own):
        return {}
    # Decoders release the interpreter; the objects of others may not bear several threads.
    with ThreadPoolExecutor(os.cpu_count() if own else 1) as threads:
        asked: Sequence[int] = range(len(pixels))
        if quick:
            asked = [k for k, whole in _each(threads, _looks_whole, pixels, asked) if not whole]
        return {k: reason for k, reason in _each(threads, _reason, pixels, asked) if reason is not None}


def _each(
    threads: ThreadPoolExecutor, look: Callable[[FilePixels, int], Said], pixels: FilePixels, asked: Sequence[int]
) -> Iterator[tuple[int, Said]]:
    """The positions ``asked`` with what ``look`` says of each, in their order."""
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        yield from zip(block, threads.map(look, repeat(pixels), block), strict=True)


def _looks_whole(pixels: FilePixels, position: int) -> bool:
    """By the first and the last bytes of the file; one that does not is decoded to be sure."""
    try:
        with pixels.open(position) as file:
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read(TAIL)
    except OSError:
        return False
    start = next((s for s in STARTS if head.startswith(s)), None)
    if start == b"RIFF":
        return size >= int.from_bytes(head[4:8], "little") + 8
    return start is not None and ENDS.get(start, b"") in tail


def _reason(pixels: FilePixels, position: int) -> str | None:
    try:
        pixels.load(position)
    except UnreadError:
        raise
    except UserError as error:
        return str(error)
    return None
