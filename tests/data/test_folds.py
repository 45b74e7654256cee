"""Parts of a data set: every image in one, every class in all, and the same parts whatever else is asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import DataOptions, load_data
from dlkd.data.samples import stratified_folds
from dlkd.errors import UserError

quick = settings(deadline=None, max_examples=50)


@st.composite
def cut(draw):
    """Labels in any order, some numbers without an image, and as many parts as the smallest class allows."""
    folds = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(folds, 20), min_size=1, max_size=6))
    numbers = draw(st.lists(st.integers(0, 30), min_size=len(sizes), max_size=len(sizes), unique=True))
    labels = np.repeat(numbers, sizes)
    seed = draw(st.integers(0, 2**32))
    return np.random.default_rng(seed).permutation(labels), folds, seed


@quick
@given(cut())
def test_every_class_is_dealt_out_evenly(case):
    labels, folds, seed = case
    found = stratified_folds(labels, folds, seed)
    assert found.shape == labels.shape and found.min() == 0 and found.max() == folds - 1
    for c in np.unique(labels):
        counts = np.bincount(found[labels == c], minlength=folds)
        assert counts.max() - counts.min() <= 1
    # The parts are of one size too, although each class has odd ones.
    sizes = np.bincount(found, minlength=folds)
    assert sizes.max() - sizes.min() <= 1


@quick
@given(cut())
def test_the_seed_alone_decides(case):
    labels, folds, seed = case
    assert np.array_equal(stratified_folds(labels, folds, seed), stratified_folds(labels, folds, seed))
    # Names of classes do not, as long as they have one order.
    assert np.array_equal(stratified_folds(labels * 2 + 1, folds, seed), stratified_folds(labels, folds, seed))


def test_other_seeds_cut_elsewhere():
    labels = np.repeat(np.arange(10), 50)
    a, b = (stratified_folds(labels, 5, seed) for seed in (0, 1))
    # Two independent cuts agree on a fifth: 100 of 500, standard deviation 9.
    assert 50 < (a == b).sum() < 150


@pytest.mark.parametrize(("labels", "folds"), [([0, 0, 0, 1, 1], 3), ([0, 0, 1, 1], 1), ([0, 1], 0)])
def test_what_cannot_be_cut(labels, folds):
    with pytest.raises(ValueError, match="at least two folds"):
        stratified_folds(labels, folds, 0)


def test_no_images():
    assert stratified_folds([], 2, 0).shape == (0,)


@pytest.mark.parametrize(
    "options",
    [
        DataOptions(per_class=23),
        DataOptions(per_class=23, noise=0.3),
        DataOptions(per_class=20, noise=0.3, seed=3, held_out=0.0),
    ],
)
def test_parts_of_a_data_set(options):
    folds = 4
    whole = load_data(replace(options, held_out=0.0)).train
    parts = [load_data(replace(options, folds=folds, fold=k)) for k in range(folds)]
    chosen = np.concatenate([part.held_out.ids for part in parts])
    assert np.array_equal(np.sort(chosen), whole.ids)  # each once
    true = load_data(replace(options, held_out=0.0, noise=0.0)).train.labels.numpy()
    for part in parts:
        assert not np.intersect1d(part.train.ids, part.held_out.ids).size
        assert np.array_equal(np.sort(np.r_[part.train.ids, part.held_out.ids]), whole.ids)
        # Images carry the labels that they have in the whole set, wrong ones too.
        for samples in (part.train, part.held_out):
            place = np.searchsorted(whole.ids, samples.ids)
            assert torch.equal(samples.labels, whole.labels[torch.from_numpy(place)])
        counts = np.bincount(true[np.searchsorted(whole.ids, part.held_out.ids)], minlength=10)
        assert set(counts) <= {options.per_class // folds, -(-options.per_class // folds)}
        assert part.test.digest() == parts[0].test.digest()


def test_noise_does_not_move_the_parts_and_the_seed_does():
    options = DataOptions(per_class=20, folds=4, fold=1)
    plain, noisy, other = (load_data(o) for o in (options, replace(options, noise=0.4), replace(options, seed=1)))
    assert np.array_equal(plain.held_out.ids, noisy.held_out.ids)
    assert noisy.held_out.wrong.mean() == pytest.approx(0.4, abs=0.15)
    assert not np.array_equal(plain.held_out.ids, other.held_out.ids)


def test_a_part_can_be_learnt_from_in_part():
    options = DataOptions(per_class=20, folds=4, fold=2)
    whole, few = load_data(options), load_data(replace(options, train_per_class=3))
    assert len(few.train) == 30 and few.held_out.digest() == whole.held_out.digest()
    assert few.earlier[0].digest() == whole.train.digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 5}, "--data.folds of at least 2 with a --data.fold below it, but got 5 and None"),
        ({"fold": 0}, "but got None and 0"),
        ({"folds": 5, "fold": 5}, "but got 5 and 5"),
        ({"folds": 5, "fold": -1}, "but got 5 and -1"),
        ({"folds": 1, "fold": 0}, "--data.folds to be at least 2, but got 1"),
        ({"folds": 0, "fold": 0}, "--data.folds to be at least 2, but got 0"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        DataOptions(**changes).check()


def test_too_few_images_of_a_class():
    with pytest.raises(UserError, match=r"at least 6 training images .* '0' has 5, nor do 9 more classes; give fewer"):
        load_data(DataOptions(per_class=5, folds=6, fold=0))
    assert len(load_data(DataOptions(per_class=5, folds=5, fold=0)).held_out) == 10


def test_a_run_keeps_its_part_apart(good, train, tmp_path):
    """``dlkd train`` on three of four parts: what it learnt from, and what it kept."""
    good(*train(tmp_path / "run", "--data.folds", 4, "--data.fold", 3, "--score_on", "held_out"))
    part = load_data(DataOptions(per_class=30, folds=4, fold=3))
    with np.load(tmp_path / "run/labels.npz") as kept:
        assert np.array_equal(kept["train_ids"], part.train.ids)
        assert np.array_equal(kept["held_out_ids"], part.held_out.ids)
    with np.load(tmp_path / "run/predictions.npz") as kept:
        assert np.array_equal(np.sort(kept["held_out_ids"]), part.held_out.ids)


def test_a_fold_that_is_no_number_in_the_command(dlkd, train, tmp_path):
    for more, words in (
        (("--data.folds", 3), "--data.fold below it"),
        (("--data.folds", "many", "--data.fold", 0), "--data.folds to be a whole number or null, but got many"),
    ):
        done = dlkd(*train(tmp_path / "run", *more))
        assert done.status == 2 and words in done.err and len(done.err.splitlines()) == 1
        assert not (tmp_path / "run").exists()
