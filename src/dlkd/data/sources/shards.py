"""WebDataset shards: images in tar archives, found again by their offset."""

from __future__ import annotations

import glob
import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dlkd.data.pixels import FilePixels, Indices
from dlkd.data.samples import Samples
from dlkd.data.sources.source import IMAGE_SUFFIXES, Source, class_numbers, classes_of, numbered, which_part
from dlkd.errors import UserError, first_line

LABEL_SUFFIXES = (".cls", ".cls.txt", ".label", ".json")
LABEL_BYTES, PATTERNS, BRACES = 1 << 20, 100_000, 16
"""Most of a file with a label, of the archives that a pattern stands for, and of the braces in it."""
JSON_LABELS = ("label", "cls", "class", "target")
NAME_FILES = ("classes.txt", "classnames.txt", "class_names.txt")


class TarPixels(FilePixels):
    """Encoded images inside of tar archives; each is one seek away, whatever the order of an epoch.

    Args:
        shards: the archives.
        root: their folder.
        names: ``archive/member`` for each image.
        where: ``[N, 3]``: which archive, the first byte in it, and how many.
    """

    def __init__(self, shards: Sequence[Path], root: Path, names: Sequence[str], where: Indices) -> None:
        super().__init__(shards, root)
        self.names, self.where = list(names), where

    def __len__(self) -> int:
        return len(self.names)

    def take(self, index: Indices) -> TarPixels:
        """The chosen images, in the order of ``index``."""
        return TarPixels(self.paths, self.root, [self.names[i] for i in index], self.where[index])

    def name(self, position: int) -> str:
        """``archive/member``."""
        return self.names[position]

    def place(self, position: int) -> str:
        """What messages call an image."""
        return f"{self.names[position].partition('/')[2]} in {self.paths[self.where[position, 0]]}"

    def open(self, position: int) -> BinaryIO:
        """The encoded image, read whole."""
        shard, offset, size = self.where[position].tolist()
        # Opened anew each time: processes that share a file share its position too.
        with self.paths[shard].open("rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))

    def sizes(self) -> list[int]:
        """Bytes of each encoded image."""
        sizes: list[int] = self.where[:, 2].tolist()
        return sizes


class _Found(NamedTuple):
    name: str
    where: tuple[int, int, int]
    label: str


def webdataset(pattern: Path) -> Source:
    """Shards of ``key.jpg`` (or another image) and ``key.cls`` (or ``key.json`` with ``label``).

    Args:
        pattern: a folder of ``.tar`` files, or a pattern of their names: ``train-{000..003}.tar``, ``{a,b}.tar``,
            ``*.tar``, several joined by ``::``. Archives with ``test`` or ``val`` in their name hold the test images.
            Class names come from ``classes.txt`` beside them, one a line; otherwise they are the labels.

    Raises:
        UserError: no such archive, one that cannot be read, an image without a label, fewer than two classes.
    """
    shards = _shards(pattern)
    parts: dict[str, list[Path]] = {}
    for shard in shards:
        parts.setdefault(which_part(shard.name) or "train", []).append(shard)
    if "train" not in parts:
        raise UserError(f"expected archives of training images in --data.root {pattern}, but found test images alone")
    root = shards[0].parent
    found = {part: _index(files) for part, files in parts.items()}
    names = _class_names(root, found["train"])

    def samples(part: str) -> Samples:
        given = [names[int(each.label)] if _counts(each.label, names) else each.label for each in found[part]]
        labels = class_numbers(given, names, parts[part][0].parent)
        where = np.array([each.where for each in found[part]], np.int64).reshape(-1, 3)
        return numbered(TarPixels(parts[part], root, [each.name for each in found[part]], where), labels, names)

    test = next((part for part in ("test", "val") if found.get(part)), None)
    left_out = sorted(set(parts) - {"train", test})
    remarks = tuple(f"{len(parts[part])} archives of {part} images were left out" for part in left_out)
    return Source(samples("train"), None if test is None else samples(test), remarks)


def _counts(label: str, names: tuple[str, ...]) -> bool:
    """Whether ``label`` is the number of a class with a name of its own."""
    return label not in names and label.isdecimal() and int(label) < len(names)


def _class_names(root: Path, train: list[_Found]) -> tuple[str, ...]:
    file = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    if file is None:
        return classes_of({each.label for each in train}, root)
    try:
        return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is damaged or no text: {first_line(error)}") from error


def _shards(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        found = sorted(pattern.glob("*.tar"))
    else:
        found = []
        for one in (each for joined in str(pattern).split("::") for each in expand(joined)):
            names = sorted(glob.glob(one)) if re.search(r"[*?\[]", one) else [one]
            found += [Path(name) for name in names]
    if not found:
        raise UserError(f"expected .tar archives at --data.root {pattern}, but found none")
    if missing := next((shard for shard in found if not shard.is_file()), None):
        raise UserError(f"expected an archive at {missing}, but there is none; check --data.root {pattern}")
    return found


def expand(pattern: str) -> list[str]:
    """Every text that a pattern with ``{000..123}`` and ``{a,b}`` stands for, once."""
    inner = re.search(r"\{([^{}]*)\}", pattern)  # an innermost pair of braces
    if inner is None:
        return [pattern]
    if pattern.count("{") > BRACES:
        raise UserError(f"expected a pattern with at most {BRACES} braces, but got {pattern}")
    numbers = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", inner[1])
    words: Iterable[str] = inner[1].split(",")
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        words = (str(n).zfill(len(numbers[1])) for n in range(first, last + 1))
    found = (text for word in words for text in expand(pattern[: inner.start()] + word + pattern[inner.end() :]))
    texts = list(dict.fromkeys(itertools.islice(found, PATTERNS + 1)))
    if len(texts) > PATTERNS:
        raise UserError(f"expected a pattern of at most {PATTERNS:,} archives, but got {pattern}")
    return texts


def _index(shards: Sequence[Path]) -> list[_Found]:
    """Every image of the archives with its label."""
    found: list[_Found] = []
    for number, shard in enumerate(shards):
        try:
            # Uncompressed alone: in a compressed stream nothing can be found again.
            with tarfile.open(shard, "r:") as archive:
                members = [member for member in archive if member.isfile()]
                if sparse := next((member.name for member in members if member.issparse()), None):
                    raise ValueError(f"{sparse} claims bytes that are not there")
                _check_end(archive, shard)
                found += _index_one(archive, members, number, shard)
        except UserError:
            raise
        except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, OverflowError) as error:
            raise UserError(
                f"{shard} is damaged or no plain .tar archive ({first_line(error)}); fetch it again, and unpack a "
                "compressed one"
            ) from error
    return found


def _index_one(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], number: int, shard: Path) -> list[_Found]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, str] = {}
    for member in members:
        folder, _, file = member.name.rpartition("/")
        key, _, ending = file.partition(".")
        if file.startswith("."):  # Finder's, ``._1.png``
            continue
        key, suffix = f"{folder}/{key}", f".{ending.lower()}"
        if suffix in IMAGE_SUFFIXES:
            images[key] = member
        elif suffix in LABEL_SUFFIXES and (label := _label(archive, member, suffix)) is not None:
            labels.setdefault(key, label)
    if bare := next((member.name for key, member in images.items() if key not in labels), None):
        raise UserError(f"expected a .cls or .json with a label for {bare} in {shard}, but found none")
    return [
        _Found(f"{shard.name}/{member.name}", (number, member.offset_data, member.size), labels[key])
        for key, member in images.items()
    ]


def _check_end(archive: tarfile.TarFile, shard: Path) -> None:
    """Refuse an archive without its end of zeros: tarfile takes one that was cut inside of a header for a whole one."""
    with shard.open("rb") as file:
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ValueError("its end is missing")


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> str | None:
    if member.size > LABEL_BYTES:
        raise ValueError(f"{member.name} is too large for a label")
    file = archive.extractfile(member)
    text = "" if file is None else file.read().decode("utf-8").strip()
    if suffix != ".json":
        return text
    content = json.loads(text)
    if not isinstance(content, dict):
        return None
    return next((str(content[name]) for name in JSON_LABELS if name in content), None)
