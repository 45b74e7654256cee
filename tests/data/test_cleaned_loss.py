"""Labels of less weight: what becomes of views, targets and losses."""

import numpy as np
import pytest
import torch
from cleaned_tables import PLAIN, WHOLE, load, table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from dlkd.data import ViewOptions, view_family
from dlkd.methods import Signals, make_method


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Somewhere for the tables of hypothesis' examples."""
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def weighted(folder):
    """Half of the images count in full, the others less."""
    weights = np.where(np.arange(len(WHOLE)) % 2, 1.0, np.linspace(0.05, 0.95, len(WHOLE)).round(3))
    return load(table(folder / "weighted.csv", weight=weights))


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_views_are_the_same_whatever_the_labels(weighted, tmp_path, mixing):
    """What a store holds of raw labels is good for cleaned ones, unless images are left out."""
    relabelled = load(table(tmp_path / "a.csv", label=[""] * 20 + [str(k) for k in np.arange(len(WHOLE) - 20) % 10]))
    fewer = load(table(tmp_path / "b.csv", weight=[0.0] * 20 + [1.0] * (len(WHOLE) - 20)))
    families = [view_family(ViewOptions(mixing=mixing), data, 0, 0) for data in (PLAIN, weighted, relabelled, fewer)]
    hashes = [family.hash for family in families]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    positions, views = np.arange(40), np.full(40, 2)
    batches = [family.batch(positions, views) for family in families[:3]]
    assert torch.equal(batches[0].images, batches[1].images) and torch.equal(batches[0].images, batches[2].images)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_mixed_targets_count_by_share_and_weight(weighted, mixing):
    raw, some = (view_family(ViewOptions(mixing=mixing), data, 0, 0) for data in (PLAIN, weighted))
    positions, views = np.arange(60), np.full(60, 3)
    a, b = raw.batch(positions, views), some.batch(positions, views)
    partners, y, w = (
        some.partners(positions, views),
        PLAIN.train.labels.numpy(),
        weighted.train.weights.double().numpy(),
    )
    apart = y[positions] != y[partners]
    assert apart.sum() > 30
    own = a.target.double().numpy()[positions, y[positions]]  # λ, where the partner is of another class
    expected = np.zeros((60, 10))
    for k in np.flatnonzero(apart):
        expected[k, y[k]] += own[k] * w[k]
        expected[k, y[partners[k]]] += (1 - own[k]) * w[partners[k]]
    np.testing.assert_allclose(b.target.numpy()[apart], expected[apart], atol=1e-6)
    np.testing.assert_allclose(b.labelled_share().numpy()[apart], expected[apart].sum(1), atol=1e-6)
    assert torch.equal(b.weights, weighted.train.weights[positions])


def test_weights_travel_with_a_batch(weighted):
    batch = view_family(ViewOptions(), weighted, 0, 0).batch(np.arange(8), np.zeros(8, int))
    assert torch.equal(batch.weights, weighted.train.weights[:8]) and torch.equal(batch.labelled_share(), batch.weights)
    doubled = batch.map(lambda part: part + part)
    assert torch.equal(doubled.weights, 2 * batch.weights) and torch.equal(doubled.images, 2 * batch.images)
    gone = batch._replace(target=torch.full((8,), -1))
    assert torch.equal(gone.labelled_share(), torch.zeros(8))
    taken = weighted.train.take(np.array([3, 1]))
    assert torch.equal(taken.weights, weighted.train.weights[[3, 1]])


# The loss


def logits(seed, n, classes=10):
    s, t, p = torch.randn(3, n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return s.requires_grad_(), t, p


def of_label(parts, none):
    """The label term alone: the rest does not depend on what counts of a label."""
    return (parts.total - none.total).item()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([0.0, 0.3]))
def test_hard_labels_count_by_their_weight(seed, n, unlabelled):
    """Σ w·CE / Σ w over the images that have a label."""
    random = np.random.default_rng(seed)
    y, w = random.integers(0, 10, n), random.uniform(0.01, 1, n)
    y[random.random(n) < unlabelled] = -1
    s, t, _ = logits(seed, n)
    known = torch.from_numpy(np.where(y >= 0, w, 0.0))
    x = Signals(s, t, torch.from_numpy(y), torch.linspace(0, 1, n), labelled=known)
    log_q, rows = log_softmax(s.detach().numpy(), axis=1), np.flatnonzero(y >= 0)
    expected = -sum(w[k] * log_q[k, y[k]] for k in rows) / sum(w[k] for k in rows) if rows.size else 0.0
    method = make_method("kd")
    none = method.parts(x._replace(target=torch.full((n,), -1), labelled=torch.zeros(n).double()))
    assert of_label(method.parts(x), none) == pytest.approx(0.1 * expected, rel=1e-9, abs=1e-12)
    # A common factor of the weights changes nothing.
    half = method.parts(x._replace(labelled=known / 2))
    torch.testing.assert_close(half.total, method.parts(x).total, rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_mixed_labels_count_by_share_and_weight(weighted, seed):
    """Σ(λ w_i CE_i + (1 − λ) w_j CE_j) / Σ(λ w_i + (1 − λ) w_j) of a real batch of mixup."""
    random = np.random.default_rng(seed)
    positions = random.choice(len(weighted.train), 24, replace=False)
    views = random.integers(0, 4, 24)
    family = view_family(ViewOptions(mixing="mixup"), weighted, 0, 0)
    batch = family.batch(positions, views)
    partners = family.partners(positions, views)
    y, w = weighted.train.labels.numpy(), weighted.train.weights.double().numpy()
    # λ of a pair from the pixels, of which it is a line: x = λ x_i + (1 − λ) x_j.
    plain = view_family(ViewOptions(), weighted, 0, 0)
    one, other = (plain.batch(p, views).images.double().flatten(1).numpy() for p in (positions, partners))
    mixed = batch.images.double().flatten(1).numpy()
    share = ((mixed - other) * (one - other)).sum(1) / ((one - other) ** 2).sum(1)
    s, t, _ = logits(seed, 24)
    log_q = log_softmax(s.detach().numpy(), axis=1)
    above = below = 0.0
    for k, (i, j) in enumerate(zip(positions, partners, strict=True)):
        above -= share[k] * w[i] * log_q[k, y[i]] + (1 - share[k]) * w[j] * log_q[k, y[j]]
        below += share[k] * w[i] + (1 - share[k]) * w[j]
    method = make_method("kd")
    x = Signals(s, t, batch.target.double(), labelled=batch.labelled_share().double())
    none = method.parts(x._replace(target=torch.zeros(24, 10).double(), labelled=torch.zeros(24).double()))
    assert of_label(method.parts(x), none) == pytest.approx(0.1 * above / below, rel=1e-5)


METHODS = ("kd", "dlkd", "dkd", "nkd", "wsld", "lskd", "rld")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("soft", [False, True])
def test_a_weight_of_one_everywhere_is_none(name, soft):
    s, t, p = logits(5, 12)
    y = torch.arange(12) % 10
    target = 0.7 * torch.nn.functional.one_hot(y, 10).double() + 0.3 * torch.eye(10)[(y + 3) % 10] if soft else y
    method = make_method(name)
    x = Signals(s, t, target, torch.linspace(0, 1, 12), p)
    plain = method.parts(x)
    stated = make_method(name).parts(x._replace(labelled=torch.ones(12).double()))
    torch.testing.assert_close(plain.total, stated.total, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_label_of_less_weight_is_whole_for_the_teacher_s_term(name):
    """Weights are of the label term; a method that looks at the label elsewhere sees all of it, soft or hard."""
    s, t, p = logits(6, 12)
    y, w = torch.arange(12) % 10, torch.linspace(0.05, 1, 12).double()
    method = make_method(name)
    x = Signals(s, t, y, torch.linspace(0, 1, 12), p)
    plain, hard = method.parts(x), method.parts(x._replace(labelled=w))
    torch.testing.assert_close(hard.distillation, plain.distillation, rtol=1e-13, atol=0)
    rows = torch.nn.functional.one_hot(y, 10).double() * w.unsqueeze(1)
    soft = method.parts(x._replace(target=rows, labelled=w))
    torch.testing.assert_close(soft.total, hard.total, rtol=1e-12, atol=0)
    assert not torch.isclose(hard.total, plain.total, rtol=1e-6)


# Runs
