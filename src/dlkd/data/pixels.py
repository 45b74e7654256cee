"""The images of samples: an array in memory, or files that are decoded when they are asked for."""

from __future__ import annotations

import errno
import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dlkd.data.watch import note
from dlkd.errors import UserError, first_line

Indices = npt.NDArray[np.int64]
HEAD = 4096
"""So many first bytes of a file stand for it in a digest."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Pictures, whatever their name says. Pillow knows programs as well: it would give an EPS file to Ghostscript."""

# Pillow warns of what `decode` refuses in words of its own.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ArrayPixels:
    """A small data set held in memory whole.

    Args:
        array: ``[N, channels, H, W]``, uint8.
    """

    def __init__(self, array: Tensor) -> None:
        if array.ndim != 4 or array.dtype != torch.uint8:
            raise ValueError(
                f"expected images as uint8 of shape [N, channels, H, W], but got {array.dtype} {list(array.shape)}"
            )
        self.array = array.contiguous()

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.array.shape[1]

    def take(self, index: Indices) -> ArrayPixels:
        """The chosen images, in the order of ``index``."""
        return ArrayPixels(self.array[torch.from_numpy(index).to(self.array.device)])

    def to(self, device: torch.device) -> ArrayPixels:
        """The same images in the memory of ``device``."""
        return ArrayPixels(self.array.to(device))

    def load(self, position: int) -> Image.Image:
        """The image in RGB."""
        return picture(self.array[position].cpu())

    def digest(self) -> str:
        """sha256 of shape and pixels."""
        pixels = self.array.cpu().numpy()
        return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def picture(image: Tensor) -> Image.Image:
    """uint8 ``[channels, H, W]``, grey or colour, as a picture in RGB."""
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).convert("RGB")


class FilePixels:
    """Images that are decoded when they are asked for: files here; in subclasses, what else holds encoded images.

    Args:
        paths: one file each sample.
        root: the folder that ``paths`` are told relative to in tables and digests.
        beside: the folder of those that are not in ``root``: images without labels.
    """

    channels = 3

    def __init__(self, paths: Sequence[Path], root: Path, beside: Path | None = None) -> None:
        self.paths, self.root, self.beside = list(paths), root, beside

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Indices) -> FilePixels:
        """The chosen files, in the order of ``index``."""
        return FilePixels([self.paths[i] for i in index], self.root, self.beside)

    def name(self, position: int) -> str:
        """The path of a file without that of its folder, in ``beside`` after ``unlabelled/``; whole in neither."""
        path = self.paths[position]
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        if self.beside is not None and path.is_relative_to(self.beside):
            return f"unlabelled/{path.relative_to(self.beside).as_posix()}"
        return path.as_posix()  # a table may name files anywhere

    def place(self, position: int) -> str:
        """What messages call an image."""
        return str(self.paths[position])

    def open(self, position: int) -> BinaryIO:
        """The encoded image, to be closed by the caller."""
        return open(self.paths[position], "rb", opener=_without_waiting)

    def sizes(self) -> list[int]:
        """Bytes of each encoded image; −1 where nobody knows."""
        return [file_size(path) for path in self.paths]

    def load(self, position: int) -> Image.Image:
        """The image in RGB, turned upright as its EXIF orientation says.

        Raises:
            UserError: it is damaged, no image, or gone.
            UnreadError: the machine failed.
            MemoryError: there is no room for it.
        """
        note(position)
        try:
            with self.open(position) as file:
                return decode(file)
        except FileNotFoundError as error:
            raise UserError(f"expected an image at {self.place(position)}, but the file is gone") from error
        except MemoryError:
            raise  # it may be sound
        except Exception as error:  # every decoder of Pillow fails in its own way: struct.error, EOFError, …
            refuse_unread(self.place(position), error)
            reason = "in no known format" if isinstance(error, UnidentifiedImageError) else first_line(error)
            raise UserError(
                f"{self.place(position)} is damaged or no image ({reason}); replace or remove it"
            ) from error

    def digest(self) -> str:
        """sha256 of every file's relative path, size and first 4 KiB: cheap enough for millions of files."""
        h = hashlib.sha256()
        for position in range(len(self)):
            try:
                with self.open(position) as file:
                    head, size = file.read(HEAD), file.seek(0, os.SEEK_END)
            except OSError as error:
                raise UserError(
                    f"could not read {self.place(position)}: {error.strerror}; put it back or remove it"
                ) from error
            # As bytes: a name need not be valid UTF-8.
            h.update(os.fsencode(self.name(position)) + f"\0{size}\0".encode() + head)
        return h.hexdigest()


Pixels = ArrayPixels | FilePixels


class UnreadError(UserError):
    """An image was not read, for a reason that says nothing about the image: nobody may leave it out for that."""


def refuse_unread(place: str, error: BaseException) -> None:
    """Tell a disk that fails, too many open files or a want of permission from damage in an image.

    Args:
        place: what messages call the image.
        error: what opening or decoding it raised.

    Raises:
        UnreadError: the system gave a number to the error. Not EINVAL: a damaged header sends a decoder to a place that
            no file has. And a file that is gone is told in words of its own.
    """
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.ENOENT):
        raise UnreadError(
            f"could not read {place}: {error.strerror or first_line(error)}; this says nothing of the image itself: "
            "look at the disk, the permissions and the limit of open files, and start again"
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    """A pipe under the name of an image has no bytes; to open it would be to wait for somebody to write."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def file_size(path: Path) -> int:
    """Bytes; −1 for a file that is not there, which is said when it is needed."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def decode(file: BinaryIO) -> Image.Image:
    """The (first) image of an encoded file, upright and in RGB.

    Raises:
        ValueError: no bytes, floating-point pixels, or more pixels than Pillow takes for a decompression bomb.
    """
    if not file.read(1):
        raise ValueError("no bytes in it")
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and width * height > limit:
            raise ValueError(f"{width} × {height} pixels, above the limit of {limit}")
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, in 8 bits, without transparency."""
    upright: Image.Image = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("floating-point pixels, of no known range")
    if upright.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion turns whatever is above 255 white.
        return Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")  # straight to RGB, Pillow warns of what it drops
    return upright.convert("RGB")
