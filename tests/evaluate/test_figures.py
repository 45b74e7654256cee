"""Accuracy and calibration error against torchmetrics-free closed forms."""

import pytest
import torch

from dlkd.evaluate import accuracy, expected_calibration_error, logits_of, reliability


def test_closed_forms():
    # Four samples, confidence 0.75, three right: perfectly calibrated; then all wrong: off by 0.75.
    logits = torch.tensor([[3.0, 1.0]]).log().repeat(4, 1)
    assert accuracy(logits, torch.tensor([0, 0, 0, 1])) == 75
    assert expected_calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-5)
    assert expected_calibration_error(logits, torch.tensor([1, 1, 1, 1])) == pytest.approx(75, rel=1e-5)
    assert [b.size for b in reliability(logits, torch.tensor([1, 1, 1, 1]))] == [4]


def test_logits_in_eval_mode_and_mode_put_back():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(4, 2)).train()
    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(logits_of(model, x, batch_size=2), logits_of(model, x, batch_size=2)) and model.training
