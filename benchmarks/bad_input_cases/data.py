"""Images and labels from strangers."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from bad_input_cases.place import Case, Place
from bad_input_cases.weights import Trap, saved

SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n(canary) (w) file closefile\nshowpage\n%%EOF\n"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(content)) + _chunk(b"IEND", b"")


def _float_image() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32), np.nan, np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def _image(what: str, says: str, name: str, content: str | bytes | Callable[[bytes], bytes]) -> Case:
    """A folder with one bad file among good ones, every file looked at beforehand."""

    def make(place: Place) -> list[str]:
        sound = (place.copy("photos") / "one" / "00.png").read_bytes()
        place.write(f"photos/one/{name}", content(sound) if callable(content) else content)
        return place.images("--data.verify", "true")

    return Case("images", what, make, says)


def _spoilt(what: str, says: str, spoil: Callable[[Place], object], *more: object) -> Case:
    def make(place: Place) -> list[str]:
        place.copy("photos")
        spoil(place)
        return place.images(*more)

    return Case("images", what, make, says)


def _all_but_one(place: Place) -> None:
    shutil.rmtree(place.folder / "photos" / "zero")


def _met_later(place: Place) -> None:
    for file in (place.folder / "photos" / "one").iterdir():
        file.write_bytes(file.read_bytes()[:70])


def _arrays(what: str, says: str, **changes: object) -> Case:
    def make(place: Place) -> list[str]:
        images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
        arrays = {"train_images": images, "train_labels": labels, **changes}
        np.savez(place.folder / "data.npz", **{k: v for k, v in arrays.items() if v is not None})
        return place.train("--data.name", "npz", "--data.root", place.folder / "data.npz")

    return Case("arrays, tables, archives", what, make, says)


def _data(what: str, says: str, kind: str, name: str, content: Callable[[Place], str | bytes]) -> Case:
    def make(place: Place) -> list[str]:
        root = place.write(name, content(place))
        return place.train("--data.name", kind, "--data.root", root.parent if kind == "webdataset" else root)

    return Case("arrays, tables, archives", what, make, says)


def _bomb(_: Place) -> bytes:
    """A megabyte that says it is a terabyte."""
    buffer, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", header.getvalue() + bytes(1 << 20))
    content = buffer.getvalue()
    size = struct.pack("<I", len(header.getvalue()) + (1 << 20))
    at = content.rindex(size)
    return content[:at] + struct.pack("<I", 0xFFFFFFF0) + content[at + 4 :]


def tar(*members: tuple[str, bytes], kind: str = "w", sparse: int | None = None) -> bytes:
    """An archive; with ``sparse``, its last member claims so many bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:
        for k, (name, content) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if sparse is not None and k == len(members) - 1:
                # As GNU tar says it in a header of its own.
                claims = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
                info.pax_headers = {**claims, "GNU.sparse.realsize": str(sparse)}
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _object_array(place: Place) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(place.canary)], object), allow_pickle=True)
    return buffer.getvalue()


def _noise(what: str, says: str, name: str, content: Callable[[Place], str | bytes], kind: str = "human") -> Case:
    def make(place: Place) -> list[str]:
        return place.train("--data.noise_kind", kind, "--data.noise_file", place.write(name, content(place)))

    return Case("labels", what, make, says)


ONE = ("a.png", png(1, 1, b"\0\0\0\0"))
CASES = (
    Case("images", "no such folder", lambda p: p.images(), "expected a folder of images"),
    _spoilt("one class alone", "at least two classes", _all_but_one),
    _spoilt("a class without images", "found none", lambda p: (p.folder / "photos" / "two").mkdir()),
    _image("no bytes", "no bytes in it", "bad.png", b""),
    _image("a text under the name of an image", "in no known format", "bad.jpg", "these are pixels"),
    _image("half of an image", "bad.png is damaged", "bad.png", lambda sound: sound[: len(sound) // 2]),
    _image("a bomb of 10¹⁰ pixels", "bomb", "bad.png", png(99_999, 99_999)),
    _image("an image of 0 pixels", "bad.png is damaged", "bad.png", png(0, 0)),
    _image("an SVG with a script under another name", "in no known format", "bad.png", SVG),
    _image("a program in PostScript under another name", "in no known format", "bad.png", EPS),
    _image("pixels that are no numbers", "floating-point pixels", "bad.tif", _float_image()),
    _image("an image whose name has a line break and a terminal code", "?[31m", "a\n\x1b[31m.png", b"x"),
    _spoilt(
        "a pipe under the name of an image", "pipe.png", lambda p: os.mkfifo(p.folder / "photos" / "one" / "pipe.png")
    ),
    _spoilt(
        "a link to nothing", "gone.png", lambda p: (p.folder / "photos" / "one" / "gone.png").symlink_to("nowhere")
    ),
    _spoilt(
        "a link to a device without end",
        "endless.png",
        lambda p: (p.folder / "photos" / "one" / "endless.png").symlink_to("/dev/zero"),
        "--data.verify",
        "true",
    ),
    _spoilt("damage that is met in the middle of a run", "replace or remove it", _met_later),
    _spoilt("images of 10⁶ pixels a side", "--data.image_size", lambda _: None, "--data.image_size", 10**6),
    _spoilt(
        "unlabelled images among the labelled",
        "apart from",
        lambda _: None,
        "--data.unlabelled",
        "photos/one",
    ),
    _data("no arrays at all", "damaged", "npz", "data.npz", lambda _: b"PK nonsense"),
    _data("an archive of arrays that unpacks to 4 GB and says a terabyte", "data.npz", "npz", "data.npz", _bomb),
    _arrays("no labels", "train_labels", train_labels=None),
    _arrays("fewer labels than images", "as many", train_labels=np.arange(39) % 2),
    _arrays("a label that is no class", "labels", train_labels=np.arange(40) % 2 - 1, class_names=["a", "b"]),
    _arrays("a label of 10⁹", "count the classes", train_labels=np.arange(40) * 10**9),
    _arrays("one class alone", "two classes", train_labels=np.zeros(40, int)),
    _arrays("images that are no bytes", "uint8", train_images=np.zeros((40, 8, 8))),
    _arrays("objects that run code", "damaged or no plain", extra=np.array([{"a": 1}], object)),
    _data("half a line in a table", "fields", "table", "t.csv", lambda _: "path,label\na.png\n"),
    _data("a table that is no text", "no such file", "table", "t.csv", lambda _: b"path,label\n\xff\xfe,\x00\n"),
    _data("a table without labels", "expected a column", "table", "t.csv", lambda _: "path,size\na.png,3\n"),
    _data("a table of images that are not there", "no such file", "table", "t.csv", lambda _: "path,label\na.png,x\n"),
    _data("a table that is broken Parquet", "no table", "table", "t.parquet", lambda _: b"PAR1" + bytes(99)),
    _data("a packed archive", "unpack a compressed one", "webdataset", "d/a.tar", lambda _: tar(ONE, kind="w:gz")),
    _data("an archive that ends too soon", "damaged", "webdataset", "d/a.tar", lambda _: tar(ONE)[:700]),
    _data("an image without a label", ".cls or .json", "webdataset", "d/a.tar", lambda _: tar(ONE)),
    _data(
        "a label of a terabyte that is not there",
        "a.tar is damaged",
        "webdataset",
        "d/a.tar",
        lambda _: tar(ONE, ("a.cls", b"1\n0\n" + bytes(508)), sparse=1 << 40),
    ),
    _data(
        "a label 100,000 lists deep",
        "a.tar is damaged",
        "webdataset",
        "d/a.tar",
        lambda _: tar(ONE, ("a.json", b"[" * 100_000)),
    ),
    _data("no archive", "found none", "webdataset", "d/a.txt", lambda _: b""),
    _noise("a .pt that runs code", "damaged", "n.pt", lambda p: saved({"worse_label": Trap(p.canary)})),
    _noise("a plain pickle that runs code", "damaged", "n.pt", lambda p: pickle.dumps(Trap(p.canary))),
    _noise("a .npy that runs code", "Python objects", "n.npy", _object_array),
    _noise("labels of other images", "one label for each", "n.txt", lambda _: "1\n2\n3\n"),
    _noise("labels 100,000 lists deep", "damaged", "n.json", lambda _: "[" * 100_000),
    _noise("labels in an unknown kind of file", "to end with", "n.doc", lambda _: "1\n"),
    _noise("a matrix of other classes", "n.csv", "n.csv", lambda _: "0.5,0.5\n0.5,0.5\n", kind="matrix"),
    _noise("a matrix with a word in it", "rows of numbers", "n.csv", lambda _: "a,b\nc,d\n", kind="matrix"),
)
