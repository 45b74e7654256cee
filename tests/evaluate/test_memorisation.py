"""Which label is said where the given one is wrong."""

import numpy as np
import pytest
import torch

from dlkd.data import DataOptions, load_data
from dlkd.evaluate import memorisation, mislabelled


def test_shares_by_hand():
    logits = torch.eye(4)[[0, 0, 1, 2, 3, 3, 3, 1]]
    given, true = torch.tensor([0, 0, 1, 0, 1, 2, 1, 2]), torch.tensor([1, 1, 2, 2, 3, 3, 0, 3])
    expected = {"images": 8, "wrong_label": 37.5, "true_label": 37.5, "neither": 25.0}
    assert memorisation(logits, given, true) == expected


def test_what_makes_no_sense():
    logits = torch.eye(3)
    for given, true in (([0, 1, 2], [1, 2, 2]), ([], [])):
        with pytest.raises(ValueError, match="given label other than the true one"):
            memorisation(logits[: len(given)], torch.tensor(given), torch.tensor(true))


def test_wrong_labels_and_true_ones_of_each_part():
    options = DataOptions(noise=0.4, per_class=30, held_out=0.2, labelled=0.5)
    data, clean = load_data(options), load_data(DataOptions(per_class=30, held_out=0.2))
    found = mislabelled(data)
    assert set(found) == {"train", "held_out"}
    for name, part in found.items():
        noisy, quiet = data.part(name), clean.part(name)
        truth = dict(zip(quiet.ids.tolist(), quiet.labels.tolist(), strict=True))
        # Those whose label is hidden have no wrong one.
        off = [i for i, y in zip(noisy.ids.tolist(), noisy.labels.tolist(), strict=True) if y not in (-1, truth[i])]
        assert part.samples.ids.tolist() == off and part.true.tolist() == [truth[i] for i in off] and off
        given = dict(zip(noisy.ids.tolist(), noisy.labels.tolist(), strict=True))
        assert part.samples.labels.tolist() == [given[i] for i in off]
    few = mislabelled(data, most=7)["train"]
    assert len(few.samples) == len(few.true) == 7 and set(few.samples.ids) < set(found["train"].samples.ids)
    assert len(np.unique(few.true)) > 3  # no run of one class
    assert mislabelled(clean) == {}
