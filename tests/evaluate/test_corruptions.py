"""Corruptions: what they are, that they grow, and that they depend on the image, its number and nothing else."""

import importlib.util
import itertools
import zlib
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from dlkd.data.sources import folder, in_memory
from dlkd.evaluate import accuracy_under, corrupted, corruption, parse_corruptions, parse_severities
from dlkd.evaluate.corruptions import CORRUPTIONS, IMAGENET_C_NAMES, SEVERITIES, check_corruptions

ALL = [(name, side, channels) for name in CORRUPTIONS for side in (8, 32, 96) for channels in (1, 3)]
HAS_LIBRARY = importlib.util.find_spec("imagecorruptions") is not None
library = pytest.mark.skipif(not HAS_LIBRARY, reason="imagecorruptions is not installed")


def smooth(side, channels, seed=0, width=None):
    """A picture of blobs over all of the range."""
    draw = np.random.default_rng(seed)
    planes = [gaussian_filter(draw.normal(size=(side, width or side)), side / 20) for _ in range(channels)]
    array = np.stack([np.uint8(255 * (p - p.min()) / np.ptp(p)) for p in planes], axis=-1)
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def plain(image):
    array = torch.from_numpy(np.array(image, copy=True)).float() / 255
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


@pytest.mark.parametrize(("name", "side", "channels"), ALL)
def test_every_size_and_more_with_severity(name, side, channels):
    image = smooth(side, channels)
    spoilt = [corruption(name, s)(image, 0, 5, 1) for s in SEVERITIES]
    assert all(x.shape == plain(image).shape and 0 <= x.min() and x.max() <= 1 for x in spoilt)
    off = [(x - plain(image)).square().mean().item() ** 0.5 for x in spoilt]
    # Tiny pictures hold few values to tell by, random shifts of them fewer; uneven blocks are as bad as larger ones.
    least = 0.8 if name in ("elastic", "pixelate") or side == 8 else 0.999
    assert all(b >= a * least for a, b in itertools.pairwise(off)) and off[4] > max(0.006, 1.15 * off[0]), off


def test_wide_pictures_keep_their_shape():
    for name in CORRUPTIONS:
        assert corruption(name, 5)(smooth(20, 3, width=33), 0, 0, 0).shape == (3, 20, 33)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_batch_is_its_images(name, channels):
    pictures = [smooth(24, channels, seed=k) for k in range(3)]
    batch = torch.stack([(plain(p) * 255).round().to(torch.uint8) for p in pictures])
    view = zlib.crc32(f"{name}/3".encode())
    one_by_one = [corruption(name, 3)(p, 7, i, view) for p, i in zip(pictures, (4, 2, 9), strict=True)]
    assert torch.allclose(corrupted(batch, name, 3, 7, np.array([4, 2, 9])), torch.stack(one_by_one), atol=1e-6)


def test_strengths_are_what_they_are_called():
    grey = Image.fromarray(np.full((64, 64), 128, np.uint8))
    for severity, strength in zip(SEVERITIES, CORRUPTIONS["gaussian_noise"].strengths, strict=True):
        noise = corruption("gaussian_noise", severity)(grey, 0, 1, 0) - 128 / 255
        assert noise.std().item() == pytest.approx(strength, rel=0.1) and abs(noise.mean().item()) < 0.02
    picture = smooth(48, 3)
    x = plain(picture)
    assert torch.allclose(corruption("darkness", 3)(picture, 0, 0, 0), x * 0.45, atol=1 / 255)
    assert torch.allclose(corruption("brightness", 2)(picture, 0, 0, 0), (x * 1.4).clamp(max=1), atol=1 / 255)
    steps = (x * 255).round().div(64).floor() * 64 / 255
    assert torch.allclose(corruption("posterize", 4)(picture, 0, 0, 0), steps)
    assert len(corruption("pixelate", 4)(picture, 0, 0, 0)[0].unique(dim=0)) == 24  # half of the rows
    # An edge blurred with σ has the slope 1/(σ·√(2π)) in its middle.
    edge = torch.zeros(64, 64)
    edge[:, 32:] = 1
    step = corruption("gaussian_blur", 5)(Image.fromarray(np.uint8(edge * 255)), 0, 0, 0)[0, 32]
    assert (step[32] - step[31]).item() == pytest.approx(1 / (0.044 * 64 * (2 * np.pi) ** 0.5), rel=0.05)


def test_elastic_moves_pixels_by_its_share_of_the_side():
    """In a ramp the change of brightness is the shift; away from the border, where nothing is taken from outside."""
    side = 128
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1)))
    for severity, share in zip(SEVERITIES, CORRUPTIONS["elastic"].strengths, strict=True):
        moved = [corruption("elastic", severity)(ramp, 0, i, 0) - plain(ramp) for i in range(6)]
        inner = torch.stack(moved)[..., 24:-24, 24:-24] * (side - 1)
        assert inner.square().mean().sqrt().item() == pytest.approx(share * side, rel=0.35)


def test_names_and_severities():
    assert parse_corruptions("none") == () and parse_corruptions("all") == tuple(CORRUPTIONS)
    assert parse_corruptions("jpeg, contrast,jpeg") == ("jpeg", "contrast")
    assert parse_corruptions("imagenet-c,elastic") == (*(f"imagenet-c:{n}" for n in IMAGENET_C_NAMES), "elastic")
    for text, hint in (
        ("jpg", "did you mean jpeg"),
        ("", "got ''"),
        ("imagenet-c:snw", "did you mean imagenet-c:snow"),
    ):
        with pytest.raises(ValueError, match=hint):
            parse_corruptions(text)
    assert parse_severities("3") == (3,) and parse_severities("5, 1") == (1, 5)
    for text in ("0", "6", "", "1,1", "two", "1.5", "-1"):
        with pytest.raises(ValueError, match="from 1 to 5"):
            parse_severities(text)


class ByMean(nn.Module):
    """Bright or dark? It tells the corruptions of brightness apart, and noise by luck."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        bright = images.mean(dim=(1, 2, 3)) * self.scale
        return torch.stack([0.5 - bright, bright - 0.5], dim=1)


def many(n=40):
    draw = torch.Generator().manual_seed(0)
    levels = torch.linspace(60, 195, n).round()
    pixels = levels[:, None, None, None] + torch.randn((n, 1, 8, 8), generator=draw) * 20
    return in_memory(pixels.clamp(0, 255).to(torch.uint8), (levels > 127.5).long(), ("dark", "bright"))


def test_accuracy_by_an_independent_loop():
    samples, names = many(), ("gaussian_noise", "darkness", "brightness")
    found = accuracy_under(ByMean().train(), samples, lambda x: x, names, (1, 5))
    array = samples.pixels.array.double() / 255
    for name, factor in (("darkness", (0.8, 0.2)), ("brightness", (1.2, 2.0))):
        for share, strength in zip(found[name], factor, strict=True):
            said = (array * strength).clamp(max=1).mul(255).floor().div(255).mean(dim=(1, 2, 3)) > 0.5
            assert share == pytest.approx(100 * (said.long() == samples.labels).double().mean().item(), abs=2.6)
    assert found["darkness"][1] == 50 and found["gaussian_noise"][0] > 90


def test_the_same_for_any_company_and_order():
    """What is done to an image depends on the seed, its number, the corruption and the severity."""
    samples = many()

    def watch(into):
        return lambda x: (into.append(x.clone()), x)[1]

    whole, half, other = [], [], []
    names = ("gaussian_noise", "elastic")
    accuracy_under(ByMean(), samples, watch(whole), names, (2, 4))
    accuracy_under(ByMean(), samples.take(np.array([31, 7])), watch(half), (names[1], names[0]), (4,))
    accuracy_under(ByMean(), samples, watch(other), names, (2, 4), seed=1)
    seen = dict(zip([(n, s) for n in names for s in (2, 4)], whole, strict=True))
    assert torch.equal(half[0], seen["elastic", 4][[31, 7]]) and torch.equal(
        half[1], seen["gaussian_noise", 4][[31, 7]]
    )
    assert not any(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    one = in_memory(samples.pixels.array[:1].repeat(2, 1, 1, 1), torch.tensor([0, 0]), samples.class_names)
    twins = []
    accuracy_under(ByMean(), one, watch(twins), names, (5,))
    assert all(not torch.equal(a, b) for a, b in twins)


def test_nothing_else_is_drawn_from():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    model = ByMean().train()
    accuracy_under(model, many(4), lambda x: x, ("gaussian_noise", "elastic"))
    assert torch.equal(torch.rand(3), expected) and model.training


def test_files(photos):
    samples = folder(photos).train
    seen = []
    found = accuracy_under(ByMean(), samples, lambda x: (seen.append(x), x)[1], ("jpeg", "contrast"), (1,), size=16)
    assert set(found) == {"jpeg", "contrast"} and seen[0].shape == (40, 3, 16, 16)


def test_imagenet_c_needs_room():
    with pytest.raises(
        ValueError, match=r"at least 32 pixels a side.*got 8; take others" if HAS_LIBRARY else "pip install"
    ):
        accuracy_under(ByMean(), many(4), lambda x: x, ("imagenet-c:snow",))


def test_imagenet_c_without_its_library(monkeypatch):
    def no_distribution(name):
        raise metadata.PackageNotFoundError(name)

    def no_graphics(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    check_corruptions(("jpeg",), 8)
    for place, broken, reason in (
        ("metadata.version", no_distribution, "imagecorruptions-imaug"),
        ("import_module", no_graphics, "libGL" if HAS_LIBRARY else "imagecorruptions-imaug"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"dlkd.evaluate.corruptions.{place}", broken)
            with pytest.raises(ValueError, match=rf"{reason}.*pip install 'dlkd\[corruptions\]'"):
                check_corruptions(("imagenet-c:fog",))


@library
@pytest.mark.parametrize("name", IMAGENET_C_NAMES)
def test_imagenet_c_is_that_of_the_library_and_repeatable(name):
    import imagecorruptions

    assert imagecorruptions.get_corruption_names() == list(IMAGENET_C_NAMES)
    image, change = smooth(32, 3), corruption(f"imagenet-c:{name}", 4)
    first = change(image, 0, 1, 2)
    assert first.shape == (3, 32, 32) and torch.equal(first, change(image, 0, 1, 2))
    if name in ("brightness", "contrast", "pixelate", "jpeg_compression", "defocus_blur", "zoom_blur"):
        direct = imagecorruptions.corrupt(np.asarray(image), 4, name)
        assert torch.equal(first, torch.from_numpy(direct.copy()).permute(2, 0, 1).float() / 255)
    else:
        assert not torch.equal(first, change(image, 0, 2, 2))


@library
def test_imagenet_c_grey():
    pixels = torch.stack([(plain(smooth(32, 1, seed=k)) * 255).to(torch.uint8) for k in range(2)])
    samples = in_memory(pixels, torch.tensor([0, 1]), ("a", "b"))
    seen = []
    accuracy_under(ByMean(), samples, lambda x: (seen.append(x), x)[1], ("imagenet-c:frost",), (5,))
    assert seen[0].shape == (2, 1, 32, 32)
