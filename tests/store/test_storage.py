"""How logits are kept: exactly, within half a unit of fp16, or the largest few by a stated rule."""

import numpy as np
import pytest
import torch

from dlkd.errors import UserError
from dlkd.store import Lesson, Storage

B, C = 64, 20


def lesson(classes=C, *, probe=False, times=5.0):
    generator = torch.Generator().manual_seed(classes)
    logits, other = (times * torch.randn(B, classes, generator=generator) for _ in range(2))
    return Lesson(logits, {"one/l2/tau1": torch.rand(B, generator=generator)}, other if probe else None)


def back(storage, said):
    return storage.decode(storage.encode(said), said.logits.shape[1])


@pytest.mark.parametrize("probe", [False, True])
def test_fp32_is_exact(probe):
    said = lesson(probe=probe)
    found = back(Storage("fp32"), said)
    assert found.tensors().keys() == said.tensors().keys() and (found.probe_logits is not None) == probe
    assert all(torch.equal(found.tensors()[k], v) for k, v in said.tensors().items())


def test_fp16_is_off_by_at_most_half_a_unit():
    said = lesson(probe=True)
    said.logits[0, :4] = torch.tensor([65504.0, -65504.0, 1 + 2.0**-11, 2.0**-14])
    found = back(Storage("fp16"), said)
    for kept, exact in ((found.logits, said.logits), (found.probe_logits, said.probe_logits)):
        error = (kept.double() - exact.double()).abs() / exact.double().abs().clamp(min=2.0**-14)
        assert 2.0**-13 < error.max() <= 2.0**-11  # rounded, but no more
    assert torch.equal(found.columns["one/l2/tau1"], said.columns["one/l2/tau1"])


def test_what_fp16_cannot_hold_is_refused_in_one_line():
    said = lesson(probe=True)
    said.logits[3, 1] = -70_000.0
    with pytest.raises(UserError, match=r"^expected logits below 65,504 .* but got 7e\+04; give --storage.dtype fp32$"):
        Storage("fp16").encode(said)
    assert torch.equal(back(Storage("fp32"), said).logits, said.logits)
    said.logits[3, 1] = -torch.inf  # is not too large: it comes back as it is
    assert back(Storage("fp16"), said).logits[3, 1] == -torch.inf
    said.probe_logits[0, 0] = 1e6
    with pytest.raises(UserError, match="expected probe logits below"):
        Storage("fp16").encode(said)


@pytest.mark.parametrize("k", [1, 3, C - 1])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_top_k_by_hand(k, dtype):
    said = lesson(probe=True)
    found = back(Storage(dtype, k), said)
    for kept, exact in ((found.logits, said.logits), (found.probe_logits, said.probe_logits)):
        z = exact.numpy().astype(np.float64)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        largest = np.argsort(-z, axis=1)[:, :k]
        expected = np.zeros_like(p)
        np.put_along_axis(expected, largest, np.take_along_axis(p, largest, 1), 1)
        rest = 1 - expected.sum(1, keepdims=True)
        expected = np.where(expected > 0, expected, rest / (C - k))
        shown = np.exp(kept.numpy().astype(np.float64))
        # The logits themselves come back, not only their differences: no common shift.
        total = np.exp(z).sum(1, keepdims=True)
        np.testing.assert_allclose(shown / total, expected, rtol=1e-5 if dtype == "fp32" else 1e-2, atol=1e-7)
        if dtype == "fp32":
            np.testing.assert_allclose(shown.sum(1) / total[:, 0], 1, rtol=1e-5)
            assert all(len(np.unique(row)) == k + 1 for row in kept.numpy())
    assert found.columns.keys() == {"one/l2/tau1"}


def test_top_k_of_very_many_classes():
    said = lesson(40_000, times=1.0)
    said.logits[:, 39_999] = 30.0  # beyond 16 bits
    kept = Storage("fp16", 2).encode(said)
    assert (
        kept["logits/index"].dtype == torch.int32 and back(Storage("fp16", 2), said).logits.argmax(1).eq(39_999).all()
    )
    assert Storage("fp16", 2).encode(lesson(32_768, times=1.0))["logits/index"].dtype == torch.int16


@pytest.mark.parametrize("storage", [Storage("fp16"), Storage("fp32"), Storage("fp16", 3), Storage("fp32", 7)], ids=str)
@pytest.mark.parametrize("probe", [False, True])
def test_bytes_are_counted(storage, probe):
    kept = storage.encode(lesson(probe=probe))
    assert sum(v.nbytes for v in kept.values()) == B * storage.bytes_per_sample(C, 1, probe_logits=probe)


@pytest.mark.parametrize("k", [-1, 0, C, C + 1])
def test_top_k_out_of_range(k):
    with pytest.raises(UserError, match=f"^expected top_k to be from 1 to 19 .of 20 classes., but got {k}$"):
        Storage("fp16", k).check(C)
    for good in (None, 1, C - 1):
        Storage("fp16", good).check(C)


@pytest.mark.parametrize("storage", [Storage("fp16"), Storage("fp32"), Storage("fp16", 3)], ids=str)
def test_gap_is_what_lies_beyond_the_rounding(storage):
    said = lesson(probe=True)
    said.logits[5, 2] = torch.inf
    kept = {k: v.clone() for k, v in storage.encode(said).items()}
    assert storage.gap(kept, said).max() < 1e-6
    kept["logits"][7, 1] += 0.5
    kept["probe_logits"][8, 0] -= 0.25
    gap = storage.gap(kept, said)
    assert gap[7] == pytest.approx(0.5, abs=0.02) and gap[8] == pytest.approx(0.25, abs=0.02)
    assert gap[torch.arange(B) != 7].topk(2).values[1] < 1e-6
    kept["logits"][9, 0], kept["logits"][10, 0] = torch.nan, torch.inf
    assert storage.gap(kept, said)[9:11].isinf().all()
    said.logits[11, said.logits[11].argmax()] = torch.inf
    assert storage.gap(kept, said)[11].isinf()


def test_gap_sees_the_rest_of_top_k():
    storage, said = Storage("fp32", 3), lesson()
    kept = storage.encode(said)
    kept["logits/rest"][4] += 0.5
    gap = storage.gap(kept, said)
    assert gap[4] == pytest.approx(0.5, abs=1e-5) and gap.topk(2).values[1] < 1e-5
