"""Figures of a classifier against numpy in float64 and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from dlkd.evaluate import (
    accuracy,
    agreement,
    balanced_accuracy,
    brier_score,
    by_level,
    expected_calibration_error,
    figures,
    kl_to_teacher,
    reliability,
)
from dlkd.evaluate.figures import NAMES


def random(seed, n, classes, spread=2.0):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(0, spread, (n, classes))).float(), torch.from_numpy(
        draw.integers(0, classes, n)
    )


def softmax(logits):
    z = logits.double().numpy()
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 80), st.integers(2, 12), st.floats(0.1, 20))
def test_against_numpy(seed, n, classes, spread):
    logits, labels = random(seed, n, classes, spread)
    p, y = softmax(logits), labels.numpy()
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    edges = np.linspace(0, 1, 16)
    ece = sum(
        abs(right[chosen].mean() - confidence[chosen].mean()) * chosen.sum() / n
        for low, high in itertools.pairwise(edges)
        if (chosen := (confidence > low) & (confidence <= high)).any()
    )
    z = logits.double().numpy()
    expected = {
        "accuracy": 100 * right.mean(),
        "nll": np.mean([np.log(np.exp(row - row[c]).sum()) for row, c in zip(z, y, strict=True)]),
        "brier": np.mean([((row - np.eye(classes)[c]) ** 2).sum() for row, c in zip(p, y, strict=True)]),
        "ece": 100 * ece,
    }
    if classes > 5:
        expected["top5_accuracy"] = 100 * np.mean([c in np.argsort(row)[-5:] for row, c in zip(z, y, strict=True)])
    found = figures(logits, labels)
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (
        found.keys() - expected.keys() == {"balanced_accuracy", "aurc", "excess_aurc"} and found.keys() <= NAMES.keys()
    )


def test_closed_forms():
    # Four samples, confidence 0.75, three right: perfectly calibrated; then all wrong: off by 0.75.
    logits, right = torch.tensor([[3.0, 1.0]]).log().repeat(4, 1), torch.tensor([0, 0, 0, 1])
    wrong = torch.ones(4).long()
    assert accuracy(logits, right) == 75 and accuracy(logits, wrong) == 0 and accuracy(logits, wrong, k=2) == 100
    assert expected_calibration_error(logits, right) == pytest.approx(0, abs=1e-5)
    assert expected_calibration_error(logits, wrong) == pytest.approx(75, rel=1e-5)
    (only,) = reliability(logits, right)
    assert (only.confidence, only.accuracy, only.size) == (pytest.approx(0.75), 0.75, 4)
    assert brier_score(logits, wrong) == pytest.approx(2 * 0.75**2)
    assert figures(logits, wrong)["nll"] == pytest.approx(np.log(4))
    # Uniform predictions; certain ones, right and wrong.
    assert brier_score(torch.zeros(3, 10), torch.tensor([0, 4, 9])) == pytest.approx(0.9)
    certain = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert brier_score(certain, torch.tensor([0, 1])) == pytest.approx(1.0)
    assert expected_calibration_error(certain, torch.tensor([0, 1])) == pytest.approx(50)
    assert figures(certain, torch.tensor([0, 1]))["nll"] == pytest.approx(500)


def test_bins_are_of_equal_width_and_hold_everybody():
    logits, labels = random(0, 500, 3)
    parts = reliability(logits, labels, bins=4)
    assert sum(p.size for p in parts) == 500
    for p, low in zip(parts, (0.25, 0.5, 0.75), strict=True):  # of three classes, confidence is above 1/3
        assert low < p.confidence <= low + 0.25
    # An edge belongs to the bin below it.
    half = torch.zeros(1, 2)
    assert len(reliability(torch.cat([half, half + torch.tensor([1e-3, 0])]), torch.tensor([0, 0]), bins=2)) == 2


def test_half_precision_logits_are_judged_in_double():
    logits, labels = random(3, 50, 7)
    for dtype in (torch.float16, torch.bfloat16):
        assert figures(logits.to(dtype), labels) == figures(logits.to(dtype).double(), labels)


def test_top5_where_it_says_something():
    assert "top5_accuracy" not in figures(*random(0, 10, 5)) and "top5_accuracy" in figures(*random(0, 10, 6))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 12))
def test_balanced_accuracy_against_scikit_learn(seed, n, classes):
    logits, labels = random(seed, n, classes)
    expected = 100 * balanced_accuracy_score(labels.numpy(), logits.numpy().argmax(axis=1))
    assert balanced_accuracy(logits, labels) == pytest.approx(expected)


def test_a_class_without_images_does_not_count():
    """torchmetrics counts it as 0 as soon as it is named."""
    logits, labels = torch.eye(3)[[0, 0, 1]], torch.tensor([0, 0, 0])
    assert balanced_accuracy(logits, labels) == pytest.approx(100 * 2 / 3)
    assert balanced_accuracy(torch.eye(3)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 2])) == 50


@pytest.mark.parametrize("seed", range(5))
def test_torchmetrics_agrees_where_it_means_the_same(seed):
    """Every class has images, and no confidence is at the edge of a bin."""
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    (logits, _), labels = random(seed, 400, 7), torch.arange(400) % 7
    macro = metrics.multiclass_accuracy(logits.double(), labels, 7, average="macro").item()
    ece = metrics.multiclass_calibration_error(torch.softmax(logits.double(), 1), labels, 7, n_bins=15).item()
    top3 = metrics.multiclass_accuracy(logits, labels, 7, average="micro", top_k=3).item()
    found = figures(logits, labels)
    assert found["balanced_accuracy"] == pytest.approx(100 * macro, rel=1e-6)
    assert found["ece"] == pytest.approx(100 * ece, rel=1e-6)
    assert accuracy(logits, labels, k=3) == pytest.approx(100 * top3, rel=1e-6)


def test_kl_to_teacher():
    a, b = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 1.0]]).log()
    assert kl_to_teacher(a, a) == pytest.approx(0, abs=1e-12)
    # KL(½, ½ || ¾, ¼) = ½·ln(2/3) + ½·ln 2, and the other way round.
    assert kl_to_teacher(a, b) == pytest.approx(0.5 * np.log(4 / 3), rel=1e-6)
    assert kl_to_teacher(b, a) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6)
    (student, _), (teacher, _) = random(0, 50, 6), random(1, 50, 6)
    p, q = softmax(teacher), softmax(student)
    assert kl_to_teacher(student, teacher) == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-9)


def test_agreement():
    a, b = torch.eye(4), torch.eye(4)[[0, 1, 3, 3]]
    assert agreement(a, b) == 75 and agreement(a, a) == 100
    assert agreement(a, 5 * b - 3) == 75


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 10))
def test_by_level_against_a_loop(seed, n, parts):
    (logits, labels), (teacher, _) = random(seed, n, 3), random(seed + 1, n, 3)
    level = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, n)).float()
    rows = by_level(logits, labels, level, teacher, parts)
    assert sum(row["samples"] for row in rows) == n
    groups = {}
    for k in range(n):
        groups.setdefault(int(np.float32(level[k]) * np.float32(parts)) + 1, []).append(k)
    assert [row["decile"] for row in rows] == sorted(groups)
    for row in rows:
        z, t, y = (x.numpy()[groups[row["decile"]]] for x in (logits, teacher, labels))
        assert row["accuracy"] == pytest.approx(100 * (z.argmax(1) == y).mean())
        assert row["teacher_accuracy"] == pytest.approx(100 * (t.argmax(1) == y).mean())
        assert row["agreement"] == pytest.approx(100 * (z.argmax(1) == t.argmax(1)).mean())


def test_tenths_and_their_ends():
    level = torch.tensor([0.0, 0.05, 0.1, 0.55, 0.99, 1.0])
    logits, labels = random(0, 6, 2)
    rows = by_level(logits, labels, level, logits)
    assert [(row["decile"], row["samples"]) for row in rows] == [(1, 2), (2, 1), (6, 1), (10, 2)]
    assert all(row["agreement"] == 100 for row in rows)
