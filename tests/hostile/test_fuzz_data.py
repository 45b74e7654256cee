"""Images, archives, tables and labels of strangers: read, or refused in one line that names the file."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz, in_time, mutated
from PIL import Image

from dlkd.data import FilePixels
from dlkd.data.noise.tables import read_columns, read_matrix
from dlkd.data.sources import open_source
from dlkd.data.sources.shards import expand
from dlkd.errors import UserError
from dlkd.teacher import read_class_names

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)


def image(kind, **how):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **how)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = orientation, "x" * 50, {0x9000: b"0232"}
    return exif


IMAGES = {
    "a.png": image("PNG"),
    "a.jpg": image("JPEG"),
    "exif.jpg": image("JPEG", exif=turned(6)),
    "exif.png": image("PNG", exif=turned(8)),
    "a.gif": image("GIF", save_all=True, append_images=[Image.new("RGB", (10, 12))]),
    "a.webp": image("WEBP"),
    "a.bmp": image("BMP"),
    "a.tif": image("TIFF"),
    "a.ppm": image("PPM"),
}
STRANGE = [
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"<svg onload='x'>",
    b"II*\x00\xff\xff\xff\xff",
    b"Exif\x00\x00MM\x00*",
    b"\xff" * 8,
]


def refused(call, *arguments, naming):
    """Whatever comes back, or None where it was refused as it should be."""
    try:
        with in_time():
            return call(*arguments)
    except UserError as error:
        assert "\n" not in str(error) and str(naming) in str(error)
        return None


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.filterwarnings("ignore")  # Pillow's, about what it leaves out
def test_images(tmp_path, name):
    file = tmp_path / name

    @given(content=mutated(IMAGES[name], STRANGE))
    @fuzz(60)
    def run(content):
        file.write_bytes(content)
        found = refused(FilePixels([file], tmp_path).load, 0, naming=file)
        assert found is None or (found.mode == "RGB" and found.width * found.height <= Image.MAX_IMAGE_PIXELS)

    run()


def test_only_pictures_are_pictures(tmp_path):
    """Pillow itself would hand the one to Ghostscript, and open the others."""
    for kind in ("EPS", "PDF", "ICO", "PCX", "TGA"):
        (tmp_path / "a.png").write_bytes(image(kind))
        with pytest.raises(UserError, match="in no known format"):
            FilePixels([tmp_path / "a.png"], tmp_path).load(0)


def archive(**members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


SHARD = archive(**{"a.png": image("PNG"), "a.cls": b"0", "b.png": image("PNG"), "b.json": b'{"label": "1"}'})


@given(content=mutated(SHARD, [b"[" * 2000, b"9" * 12, b"\x80" + b"\xff" * 11, b"GNU.sparse.realsize=9", b"../../x"]))
@fuzz(200)
def test_archives(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    found = refused(open_source, "webdataset", tmp_path, naming=tmp_path)
    if found is not None:
        for position in range(len(found.train)):
            refused(found.train.pixels.load, position, naming="a.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_members_from_elsewhere_stay_in_their_archive(tmp_path):
    """Nothing is unpacked: a name is but a name, and links lead nowhere."""
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(image("PNG"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, label in (("../../evil", "a"), ("/tmp/evil-of-test-fuzz-data", "b")):
            for name, content in ((f"{key}.png", image("PNG")), (f"{key}.cls", label.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        for kind, name in (
            (tarfile.SYMTYPE, "link.png"),
            (tarfile.LNKTYPE, "hard.png"),
            (tarfile.FIFOTYPE, "pipe.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../secret.png"
            tar.addfile(info)
    (folder / "a.tar").write_bytes(buffer.getvalue())
    before = sorted(tmp_path.rglob("*"))
    found = open_source("webdataset", folder).train
    assert found.pixels.names == ["a.tar/../../evil.png", "a.tar//tmp/evil-of-test-fuzz-data.png"]
    assert all(np.array_equal(np.asarray(found.pixels.load(k)), PIXELS) for k in range(2))
    assert sorted(tmp_path.rglob("*")) == before


@given(pattern=st.text("{}0123456789.,ab", max_size=60))
@fuzz(200)
def test_patterns(pattern):
    with in_time():
        try:
            found = expand(pattern)
        except UserError:
            return
    assert 1 <= len(found) <= 100_000 and len(set(found)) == len(found)


def test_patterns_that_stand_for_too_many(tmp_path):
    for pattern in ("{0..999999999}{0..999999999}", "{1..100001}", "{a,b}" * 17, "{" * 500 + "}" * 500):
        with in_time(), pytest.raises(UserError, match="expected a pattern"):
            expand(pattern)
    assert len(expand("{1..100000}")) == 100_000 and len(expand("{a,b}" * 10)) == 1024


def labels(kind):
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez(buffer, worst=np.arange(9), clean=np.arange(9))
    elif kind == "npy":
        np.save(buffer, np.arange(9))
    elif kind == "pt":
        torch.save({"worse_label": torch.arange(9), "random_label1": [1, 2, 3]}, buffer)
    else:
        text = {"csv": "label,clean\n1,2\n3,4\n", "json": json.dumps({"a": [1, 2], "b": [3]}), "txt": "1\n2\n3\n"}
        return text[kind].encode()
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npz", "npy", "pt", "csv", "json", "txt"])
def test_labels(tmp_path, kind):
    file = tmp_path / f"n.{kind}"
    pieces = [b"\x80\x02cposix\nsystem\n", b"[" * 2000, b"9" * 5000, b"|O8", b"(99999999999,)", b"\xff", b'"']

    @given(content=mutated(labels(kind), pieces))
    @fuzz(60)
    def run(content):
        file.write_bytes(content)
        refused(read_columns, file, naming=file)
        if kind in ("csv", "npy", "json"):
            refused(read_matrix, file, naming=file)

    run()


@given(content=mutated(b'["cat", "dog"]', [b"[" * 2000, b"9" * 5000, b"\xff", b"\x00", b"{}"]))
@fuzz(100)
def test_names_of_classes(tmp_path, content):
    (tmp_path / "names").write_bytes(content)
    refused(read_class_names, tmp_path / "names", naming=tmp_path / "names")


@given(
    content=mutated(
        b"path,label,split\na.png,x,train\na.png,y,train\n", [b'"', b"\x00", b"\xff", b"," * 200_000, b"\n"]
    )
)
@fuzz(100)
def test_tables(tmp_path, content):
    (tmp_path / "a.png").write_bytes(image("PNG"))
    (tmp_path / "t.csv").write_bytes(content)
    refused(open_source, "table", tmp_path / "t.csv", naming="t.csv")
