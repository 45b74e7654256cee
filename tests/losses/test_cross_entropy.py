"""Cross-entropy against torch's own, and its errors."""

import pytest
import torch
from torch.nn import functional

from dlkd.losses import cross_entropy


def test_equals_torch_for_hard_and_soft_labels():
    z = torch.randn(6, 5, dtype=torch.float64)
    y = torch.tensor([0, 4, 2, 2, 1, 3])
    torch.testing.assert_close(cross_entropy(z, y), functional.cross_entropy(z, y, reduction="none"))
    soft = torch.rand(6, 5, dtype=torch.float64)
    soft /= soft.sum(1, keepdim=True)
    torch.testing.assert_close(cross_entropy(z, soft), functional.cross_entropy(z, soft, reduction="none"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 5]), "between 0 and 4"),
        (torch.tensor([-1, 0]), "between 0 and 4"),
        (torch.tensor([0]), "class numbers"),
        (torch.rand(2, 4), "soft labels"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(torch.zeros(2, 5), target)


def test_bad_logits():
    with pytest.raises(ValueError, match="classes"):
        cross_entropy(torch.zeros(5), torch.tensor([0]))
