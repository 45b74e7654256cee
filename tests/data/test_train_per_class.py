"""``--data.train_per_class``: fewer images are learnt from, and everything else is that of the whole set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import DataOptions, load_data
from dlkd.data.sources import digits
from dlkd.errors import UserError

TRUE = digits().train.labels.numpy()


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 200), st.sampled_from([0.0, 0.4]), st.integers(0, 50), st.sampled_from([None, 40]))
def test_the_first_of_each_true_class(count, noise, seed, per_class):
    options = DataOptions(noise=noise, seed=seed, per_class=per_class)
    whole, few = load_data(options), load_data(replace(options, train_per_class=count))
    # By their true class: which images are learnt from does not depend on the noise.
    true = TRUE[whole.train.ids]
    kept = np.sort(np.concatenate([np.flatnonzero(true == c)[:count] for c in range(10)]))
    assert np.array_equal(few.train.ids, whole.train.ids[kept])
    assert torch.equal(few.train.labels, whole.train.labels[kept])
    assert np.array_equal(TRUE[few.train.ids], true[kept])
    if noise:
        assert np.array_equal(few.train.wrong, whole.train.wrong[kept])
    # Held-out and test images, their labels, and the report on the noise are those of the whole set.
    for a, b in ((few.held_out, whole.held_out), (few.test, whole.test), (few.earlier[0], whole.train)):
        assert a.digest() == b.digest() and torch.equal(a.labels, b.labels)
    if noise:
        assert few.noise.to_dict() == whole.noise.to_dict()
    assert whole.earlier == () and torch.equal(few.clean, whole.clean)
    assert f"{len(kept)} of {len(true)} training images are learnt from" in few.remarks


def test_labels_are_hidden_of_those_that_are_left():
    data = load_data(DataOptions(train_per_class=10, labelled=0.3))
    assert len(data.train) == 100 and data.train.unlabelled == 70
    hidden = data.train.labels.numpy() < 0
    assert [int((TRUE[data.train.ids[~hidden]] == c).sum()) for c in range(10)] == [3] * 10
    assert data.earlier[0].unlabelled == 0


def test_values_that_make_no_sense(dlkd, tmp_path, train):
    with pytest.raises(UserError, match=r"--data\.train_per_class to be at least 1, but got 0"):
        DataOptions(train_per_class=0).check()
    done = dlkd(*train(tmp_path / "out", "--data.train_per_class", "few"))
    assert done.status == 2 and "--data.train_per_class to be a whole number or null, but got few" in done.err


def test_a_teacher_of_the_whole_set_is_known(teacher, distill, good, tmp_path):
    """It has seen the images of a student of fewer, and none of the held-out ones; with other splits it might have."""
    for name, more, seen in (
        ("few", ("--data.train_per_class", 12), "kept"),
        ("other", ("--data.train_per_class", 12, "--data.held_out", 0.3), "unknown"),
    ):
        out = tmp_path / name
        good(*distill(out, "--method", "kd", *more))
        card = (out / "run.json").read_text()
        assert f'"seen": "{seen}"' in card
        with np.load(out / "labels.npz") as kept:
            assert np.bincount(kept["train_labels"]).tolist() == [12] * 10
            if seen == "kept":
                with np.load(teacher / "labels.npz") as of_teacher:
                    assert np.array_equal(kept["held_out_ids"], of_teacher["held_out_ids"])
