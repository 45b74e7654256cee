"""Instance-dependent noise on real images: its rate, what it depends on, and another derivation of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, truncnorm
from sklearn.datasets import load_digits

from dlkd.data import DataOptions, instance_noise, load_data
from dlkd.data.noise import flip_distribution, pixel_features
from dlkd.data.sources import digits, in_memory

DIGITS = load_digits()
TRUE = DIGITS.target
PIXELS = np.rint(DIGITS.data * (255 / 16))  # [1797, 64], 0 to 255


def noisy(rate, seed, scale=1.0):
    return instance_noise(lambda positions: scale * PIXELS[positions], TRUE, 10, rate, seed)


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
def test_mean_rate(rate):
    found = np.mean([noisy(rate, seed).wrong.mean() for seed in range(25)])
    # The mean of the truncated normal; 45,000 draws have a standard error of at most 0.0024.
    mean = truncnorm.mean(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    assert abs(found - rate) < 0.01 and abs(found - mean) < 0.006


@pytest.mark.parametrize(("rate", "mean"), [(0.1, 0.129), (0.2, 0.206), (0.4, 0.4)])
def test_truncation_moves_low_rates_as_documented(rate, mean):
    assert truncnorm.mean(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1) == pytest.approx(mean, abs=5e-4)


@pytest.mark.parametrize(("rate", "seed", "scale"), [(0.4, 0, 1.0), (0.05, 3, 0.002), (0.9, 2**40, 0.01)])
def test_another_derivation(rate, seed, scale):
    """Image by image, by the cumulative distribution over all classes instead of a flip and a direction."""
    uniform = np.random.default_rng((seed, 3)).random((1797, 3))
    low, high = -rate / 0.1, (1 - rate) / 0.1
    q = truncnorm.ppf(uniform[:, 2], low, high, loc=rate, scale=0.1)
    expected = []
    for n, (x, c) in enumerate(zip(scale * PIXELS, TRUE, strict=True)):
        projection = np.random.default_rng((seed, 4, c)).standard_normal((64, 10))
        score = {j: sum(x[k] * projection[k, j] for k in range(64)) for j in range(10) if j != c}
        top = max(score.values())
        total = sum(np.exp(s - top) for s in score.values())
        label, left = c, uniform[n, 1]
        if uniform[n, 0] < q[n]:
            for j, s in score.items():
                label, left = j, left - np.exp(s - top) / total
                if left < 0:
                    break
        expected.append(label)
    found = noisy(rate, seed, scale)
    assert np.array_equal(found.labels, expected) and 0 < found.wrong.sum() < 1797
    recount = np.zeros((10, 10), int)
    np.add.at(recount, (TRUE, expected), 1)
    assert np.array_equal(found.transition, recount)


def test_the_same_image_flips_in_the_same_way():
    image = 0.0015 * PIXELS[:1]
    c, copies = int(TRUE[0]), 20_000
    shares = flip_distribution(image, c, 10, 0)[0]
    assert shares[c] == 0 and shares.sum() == pytest.approx(1) and np.sort(shares)[1] > 0.001
    many = instance_noise(lambda positions: image.repeat(len(positions), 0), np.full(copies, c), 10, 0.5, 0)
    counts = np.bincount(many.labels[many.wrong], minlength=10)
    others = np.arange(10) != c
    assert chisquare(counts[others], counts.sum() * shares[others]).pvalue > 0.001
    # Another image of the class flips in another way, and so does the same image in another class.
    another = flip_distribution(0.0015 * PIXELS[10:11], c, 10, 0)[0]
    assert TRUE[10] == c and np.abs(another - shares).sum() > 0.1
    assert np.abs(flip_distribution(image, (c + 1) % 10, 10, 0)[0] - shares).sum() > 0.1


def test_at_the_scale_of_pixels_an_image_has_one_wrong_label():
    a, b = noisy(0.5, 0), instance_noise(lambda p: PIXELS[p], TRUE, 10, 0.5, 0, np.arange(1797) + 5000)
    both = a.wrong & b.wrong
    assert 300 < both.sum() < 600 and not np.array_equal(a.wrong, b.wrong)
    assert (a.labels == b.labels)[both].mean() > 0.95


def test_neither_order_nor_company_matters():
    options = DataOptions(noise=0.4, noise_kind="instance", held_out=0.25)
    whole, few = load_data(options), load_data(replace(options, per_class=40))
    given = {
        i: y for part in (whole.train, whole.held_out) for i, y in zip(part.ids, part.labels.tolist(), strict=True)
    }
    for part in (few.train, few.held_out):
        assert part.labels.tolist() == [given[i] for i in part.ids]
        assert np.array_equal(part.wrong, part.labels.numpy() != TRUE[part.ids])
    assert few.noise.rate == pytest.approx((few.train.wrong.sum() + few.held_out.wrong.sum()) / 400)
    # What is drawn is drawn from the pixels.
    ids = few.train.ids
    direct = instance_noise(lambda positions: PIXELS[ids[positions]], TRUE[ids], 10, 0.4, 0, ids)
    assert direct.labels.tolist() == few.train.labels.tolist()


def test_features_are_pixels_and_large_images_are_reduced(photos):
    assert np.allclose(pixel_features(digits().train)(np.array([3, 0])), PIXELS[[3, 0]], atol=1e-3)
    random = torch.Generator().manual_seed(0)
    large = torch.randint(0, 256, (2, 3, 64, 20), dtype=torch.uint8, generator=random)
    found = pixel_features(in_memory(large, torch.tensor([0, 1]), ("a", "b")))(np.array([1]))
    means = large[1].double().reshape(3, 32, 2, 20).mean(dim=2).flatten()
    assert np.allclose(found[0], means.numpy(), atol=1e-3)
    files = pixel_features(photos)(np.arange(9))
    assert files.shape == (9, 3 * 32 * 32) and files.min() >= 0 and 200 < files.max() <= 255


@pytest.mark.parametrize(
    ("labels", "classes", "rate"), [([0, 3], 3, 0.1), ([0], 1, 0.1), ([0, 1], 2, 1.5), ([0], 2, -1)]
)
def test_errors(labels, classes, rate):
    with pytest.raises(ValueError, match="expected"):
        instance_noise(lambda positions: np.zeros((len(positions), 2)), labels, classes, rate, 0)
