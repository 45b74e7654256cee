"""Images that are both in the training and in the test images, found by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from dlkd.data.pixels import HEAD, ArrayPixels, FilePixels
from dlkd.data.samples import Samples
from dlkd.errors import UserError

MOST = 200_000
"""Files of a size that both parts have; more of them are not opened for a warning."""
Keyed = list[tuple[object, int]]


def same_images(train: Samples, test: Samples) -> list[tuple[int, int]]:
    """Positions (training, test) of images with the same pixels in memory, or the same bytes in their files.

    One pair for each such test image. Files are told apart by their size, then by their first 4 KiB, then whole, so
    that few are read. Images that only a ``Dataset`` object can give have no size, and are not compared.

    Raises:
        UserError: too many files have a size in common.
    """
    known, asked = train.pixels, test.pixels
    if isinstance(known, ArrayPixels) and isinstance(asked, ArrayPixels):
        return _pairs(_rows(known), _rows(asked)) if known.array.shape[1:] == asked.array.shape[1:] else []
    if isinstance(known, ArrayPixels) or isinstance(asked, ArrayPixels):
        return []
    left, right = _shared(_sized(known), _sized(asked))
    if len(left) + len(right) > MOST:
        raise UserError(f"{len(left) + len(right)} files are too many to compare")
    for first in (HEAD, -1):
        left, right = _shared(_read(known, left, first), _read(asked, right, first))
    return _pairs(left, right)


def duplicate_remark(train: Samples, test: Samples) -> str | None:
    """What to tell of :func:`same_images`, if there are any."""
    try:
        pairs = same_images(train, test)
    except UserError as error:
        return f"whether training images are among the test images was not checked: {error}"
    if not pairs:
        return None
    first = " = ".join(_place(part, k) for part, k in zip((train, test), pairs[0], strict=True))
    return (
        f"{len(pairs)} of {len(test)} test images are training images too, such as {first}: accuracy on them says "
        "little; unless the split is a published one, take them out of one part"
    )


def _place(samples: Samples, position: int) -> str:
    pixels = samples.pixels
    return pixels.place(position) if isinstance(pixels, FilePixels) else f"number {samples.ids[position]}"


def _rows(pixels: ArrayPixels) -> Iterator[tuple[object, int]]:
    array: np.ndarray = pixels.array.cpu().numpy()
    return ((hashlib.blake2b(row.tobytes(), digest_size=16).digest(), k) for k, row in enumerate(array))


def _sized(pixels: FilePixels) -> Keyed:
    return [(size, k) for k, size in enumerate(pixels.sizes()) if size > 0]


def _read(pixels: FilePixels, which: Keyed, first: int) -> Keyed:
    """The files of ``which`` under a hash of their ``first`` bytes, or of all, beside the key that they had."""
    found: Keyed = []
    for key, position in which:
        try:
            with pixels.open(position) as file:
                found.append(((key, hashlib.blake2b(file.read(first), digest_size=16).digest()), position))
        except (OSError, ValueError):  # said when the image is needed
            continue
    return found


def _shared(left: Keyed, right: Keyed) -> tuple[Keyed, Keyed]:
    """What of each has a key that the other has too."""
    both = {key for key, _ in left} & {key for key, _ in right}
    return [each for each in left if each[0] in both], [each for each in right if each[0] in both]


def _pairs(known: Iterable[tuple[object, int]], asked: Iterable[tuple[object, int]]) -> list[tuple[int, int]]:
    where: dict[object, int] = {}
    for key, position in known:
        where.setdefault(key, position)
    return [(where[key], position) for key, position in asked if key in where]
