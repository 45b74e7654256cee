"""Labelled images: whatever a file holds becomes RGB, and everything about a sample travels together."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from dlkd.data import ArrayPixels, FilePixels, Samples, stratified_split
from dlkd.errors import UserError

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = COLOUR[..., 0]


def loaded(path):
    image = FilePixels([path], path.parent).load(0)
    assert image.mode == "RGB"
    return np.asarray(image)


def in_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def test_kinds_of_files(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(COLOUR).save(path)
    assert np.array_equal(loaded(path), COLOUR)
    Image.fromarray(GREY).save(path)
    assert np.array_equal(loaded(path), in_rgb(GREY))
    Image.fromarray(np.dstack([COLOUR, GREY])).save(path)  # RGBA
    assert np.array_equal(loaded(path), COLOUR)
    Image.fromarray(np.dstack([GREY, GREY[::-1]])).save(path)  # grey with alpha
    assert np.array_equal(loaded(path), in_rgb(GREY))
    Image.fromarray(GREY > 99).save(path)  # one bit
    assert np.array_equal(loaded(path), in_rgb(np.where(GREY > 99, 255, 0)))
    palette = Image.fromarray(GREY % 4)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.convert("P").save(path)
    assert Image.open(path).mode == "P"
    assert np.array_equal(loaded(path), np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])[GREY % 4])
    Image.fromarray(COLOUR).save(tmp_path / "image.webp", lossless=True)
    assert np.array_equal(loaded(tmp_path / "image.webp"), COLOUR)
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "image.tif")
    assert np.abs(loaded(tmp_path / "image.tif").astype(int) - COLOUR).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path, suffix):
    deep = GREY.astype(np.uint16) * 256 + GREY[::-1]
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    assert np.array_equal(loaded(tmp_path / f"deep.{suffix}"), in_rgb(GREY))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: np.rot90(x, 2)),
        (4, lambda x: x[::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_photos_are_turned_upright(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(loaded(tmp_path / "photo.png"), upright(COLOUR))


def chunked(*chunks):
    """A PNG of these chunks, checksums right: damage that only a decoder can find."""
    return PngImagePlugin._MAGIC + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


HEAD = (b"IHDR", struct.pack(">IIBBBBB", 9, 6, 8, 2, 0, 0, 0))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("text.jpg", b"hello"),
        ("page.png", b"<html>not found</html>"),
        ("short.png", chunked((b"IHDR", b"\0\0"))),
        ("noise.png", chunked(HEAD, (b"IDAT", b"not compressed"), (b"IEND", b""))),
        ("nothing.png", chunked(HEAD, (b"IEND", b""))),
        ("short.gif", b"GIF89a\x05\0\x05\0"),
        ("short.bmp", b"BM" + bytes(12)),
        ("short.tif", b"II*\0\x08\0\0\0\x01"),
        ("short.webp", b"RIFF\x10\0\0\0WEBPVP8 "),
        ("short.ppm", b"P6 9 6 255\n123"),
        ("bomb.png", chunked((b"IHDR", struct.pack(">IIBBBBB", 99999, 99999, 8, 2, 0, 0, 0)), (b"IDAT", b""))),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
def test_damaged_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is damaged or no image") as error:
        loaded(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
def test_files_cut_anywhere_are_never_a_traceback(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.tile(COLOUR, (5, 5, 1))).save(path)
    whole = path.read_bytes()
    refused = 0
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        try:
            loaded(path)
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 20


def test_floating_point_and_missing_files(tmp_path):
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="floating-point"):
        loaded(tmp_path / "float.tif")
    with pytest.raises(UserError, match="the file is gone"):
        loaded(tmp_path / "none.png")


def samples(n=6):
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    wrong = np.arange(n) % 3 == 0
    return Samples(ArrayPixels(pixels), torch.arange(n) % 3, np.arange(n) * 10, ("a", "b", "c"), wrong)


@given(st.lists(st.integers(0, 5), max_size=8))
@settings(deadline=None, max_examples=30)
def test_take_keeps_everything_of_a_sample_together(index):
    whole, part = samples(), samples().take(np.array(index, np.int64))
    assert len(part) == len(index) and part.class_names == whole.class_names
    for k, i in enumerate(index):
        assert torch.equal(part.pixels.array[k], whole.pixels.array[i])
        assert (part.labels[k], part.ids[k], part.wrong[k]) == (whole.labels[i], whole.ids[i], whole.wrong[i])


def test_take_of_files_and_of_unknown_noise(photos):
    part = photos.take(np.array([8, 0]))
    assert [p.name for p in part.pixels.paths] == ["8.png", "0.png"] and part.wrong is None
    assert part.labels.tolist() == [1, 0] and part.ids.tolist() == [8, 0]
    assert np.array_equal(np.asarray(part.pixels.load(1)), np.asarray(photos.pixels.load(0)))


def test_relabelled_touches_labels_alone():
    whole = samples()
    other = whole.relabelled(np.array([2] * 6), np.ones(6, bool))
    assert other.labels.tolist() == [2] * 6 and other.wrong.all() and whole.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert other.digest() == whole.digest() and other.pixels is whole.pixels


def test_digest_sees_shape_pixels_and_numbers():
    whole = samples()
    other = Samples(ArrayPixels(whole.pixels.array.view(3, 2, 1, 1)), torch.zeros(3).long(), np.arange(3), ("a",))
    assert len({whole.digest(), whole.take(np.arange(5)).digest(), other.digest()}) == 3
    assert samples().digest() == whole.digest()


def test_samples_that_cannot_be():
    pixels = ArrayPixels(torch.zeros(2, 1, 1, 1, dtype=torch.uint8))
    for labels in ([0, 2], [-2, 0]):
        with pytest.raises(UserError, match="between 0 and 1"):
            Samples(pixels, torch.tensor(labels), np.arange(2), ("a", "b"))
    with pytest.raises(ValueError, match="one label"):
        Samples(pixels, torch.tensor([0]), np.arange(2), ("a", "b"))
    for array in (torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            ArrayPixels(array)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), max_size=60), st.floats(0, 1), st.integers(0, 2**40))
def test_split_is_exact_in_each_class(labels, share, seed):
    rest, held = stratified_split(np.array(labels, np.int64), share, seed)
    assert sorted([*rest, *held]) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all() and (np.diff(held) > 0).all()
    for c in set(labels):
        assert sum(labels[i] == c for i in held) == round(share * labels.count(c))
    again = stratified_split(torch.tensor(labels), share, seed)
    assert np.array_equal(again[0], rest) and np.array_equal(again[1], held)


def test_split_differs_by_seed_and_refuses_shares():
    labels = np.arange(100) % 2
    assert len({tuple(stratified_split(labels, 0.3, seed)[1]) for seed in (0, 1, (0, 1), (1, 1))}) == 4
    for share in (-0.1, 1.2, float("nan")):
        with pytest.raises(ValueError, match="share"):
            stratified_split(labels, share, 0)
