"""Mixup and cutmix in pairs, against arithmetic by hand; each image is a class of its own, so targets tell λ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dlkd.data import CropFlip, Mixing, Stream, ViewFamily, view_key
from dlkd.data.sources import in_memory
from dlkd.errors import UserError

KINDS = st.sampled_from(["mixup", "cutmix"])


def everything(family, view):
    """The batch of all samples at ``view`` and everybody's partner."""
    positions = np.arange(len(family.samples))
    views = np.full_like(positions, view)
    return family.batch(positions, views), family.partners(positions, views)


@settings(deadline=None, max_examples=40)
@given(KINDS, st.integers(2, 14), st.integers(0, 2**40), st.integers(0, 10**6), st.floats(0.1, 5))
def test_pairs_share_lambda_and_mix_with_each_other(one_class_each, kind, n, seed, view, alpha):
    family = ViewFamily(one_class_each(n), CropFlip(1), Mixing(kind, alpha), seed)
    batch, partner = everything(family, view)
    me = np.arange(n)
    assert np.array_equal(partner[partner], me)
    assert (partner == me).sum() == n % 2
    own = batch.target[me, me]
    assert torch.equal(own, own[partner])
    assert torch.equal(batch.target.sum(dim=1), torch.ones(n))
    assert torch.equal(batch.labels, torch.arange(n))
    paired = partner != me
    assert torch.equal(batch.target[me[paired], partner[paired]], 1 - own[paired])
    odd = me[~paired]
    plain = ViewFamily(family.samples, family.augment, Mixing(), seed).batch(me, np.full(n, view)).images
    assert torch.equal(batch.images[odd], plain[odd]) and own[odd].eq(1).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**40), st.integers(0, 100), st.floats(0.1, 5))
def test_mixup_by_hand(one_class_each, seed, view, alpha):
    family = ViewFamily(one_class_each(8), CropFlip(1), Mixing("mixup", alpha), seed)
    batch, partner = everything(family, view)
    plain = ViewFamily(family.samples, family.augment, seed=seed).batch(np.arange(8), np.full(8, view)).images
    x = plain.double().numpy()
    for a, b in enumerate(partner):
        uniform = (int(view_key(seed, min(a, b), view, Stream.MIX)) + 0.5) / 2**32
        share = stats.beta.ppf(uniform, alpha, alpha)
        assert batch.target[a, a].item() == pytest.approx(share, abs=1e-6)
        assert np.allclose(batch.images[a].numpy(), share * x[a] + (1 - share) * x[b], atol=1e-6)


def numbered(n, height, width):
    """Image k has the value k everywhere: a mixed pixel tells where it is from."""
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, height, width)
    return in_memory(pixels, torch.arange(n), tuple(map(str, range(n))))


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 2**40), st.integers(0, 100), st.floats(0.1, 5))
def test_cutmix_swaps_one_box_and_the_target_is_its_real_share(height, width, seed, view, alpha):
    n = 9
    batch, partner = everything(
        ViewFamily(numbered(n, height, width), CropFlip(0, False), Mixing("cutmix", alpha), seed), view
    )
    source = (batch.images[:, 0] * 255).round().long().numpy()
    for a, b in enumerate(partner):
        mine = source[a] == a
        assert (mine | (source[a] == b)).all()
        assert batch.target[a, a].item() == pytest.approx(1.0 if a == b else mine.mean(), abs=1e-6)
        assert a == b or np.array_equal(mine, source[b] == b)  # the same box of both
        if a == b:
            continue
        # Yun et al. 2019, section 3.1, with the code they published: the box is cut at the edge.
        low = min(a, b)
        share = stats.beta.ppf((int(view_key(seed, low, view, Stream.MIX)) + 0.5) / 2**32, alpha, alpha)
        expected = np.ones((height, width), bool)
        spans = []
        for length, stream in ((height, Stream.BOX_ROW), (width, Stream.BOX_COLUMN)):
            centre = int(view_key(seed, low, view, stream)) * length >> 32
            cut = int(length * np.sqrt(1 - share))
            spans.append(slice(max(centre - cut // 2, 0), min(centre + cut // 2, length)))
        expected[spans[0], spans[1]] = False
        assert np.array_equal(mine, expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_lambda_is_beta_distributed(alpha):
    n = 4000
    pixels = torch.zeros(n, 1, 1, 1, dtype=torch.uint8)
    pixels[n // 2 :] = 255
    # Black mixed with white shows λ or 1 − λ; Beta(α, α) is symmetric.
    family = ViewFamily(
        in_memory(pixels, (torch.arange(n) >= n // 2).long(), ("0", "1")), CropFlip(0, False), Mixing("mixup", alpha), 4
    )
    batch, partner = everything(family, 0)
    me = np.arange(n)
    mixed = (batch.labels.numpy() != batch.labels.numpy()[partner]) & (me < partner)
    shares = batch.images[mixed].flatten().double().numpy()
    assert mixed.sum() > 800
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert stats.kstest(shares, stats.beta(1.5 * alpha, 1.5 * alpha).cdf).pvalue < 1e-2  # and it could fail


def test_extreme_alpha_gives_numbers(one_class_each):
    for alpha in (1e-3, 1e3):
        for kind in ("mixup", "cutmix"):
            batch, _ = everything(ViewFamily(one_class_each(6), CropFlip(0, False), Mixing(kind, alpha)), 0)
            assert batch.images.isfinite().all() and batch.target.isfinite().all()
            assert batch.images.min() >= 0 and batch.images.max() <= 1


@pytest.mark.parametrize(
    ("kind", "alpha"),
    [("mix", 1.0), ("mixup", 0.0), ("cutmix", -1.0), ("mixup", float("inf")), ("mixup", float("nan"))],
)
def test_settings_that_make_no_sense(kind, alpha):
    with pytest.raises(UserError, match="expected"):
        Mixing(kind, alpha)
