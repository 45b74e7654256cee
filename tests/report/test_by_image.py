"""Pairs, classes, confidences, tenths and disagreements, against scikit-learn and the logits themselves."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score

from dlkd.evaluate import by_level, reliability
from dlkd.report.by_image import (
    accuracy_by_class,
    accuracy_by_tenth,
    disagreement,
    reliability_bins,
    worst_pairs,
)

N, C = 500, 6


@pytest.fixture
def answers():
    """Labels, logits of a student that is often right, and what it says."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, C - 1, N)  # the last class has no image
    logits = torch.from_numpy(draw.normal(size=(N, C)) + 2.5 * np.eye(C)[labels])
    confidence, predicted = (each.numpy() for each in torch.softmax(logits, dim=1).max(dim=1))
    return labels, logits, predicted, confidence


def test_worst_pairs_are_those_of_the_confusion_matrix(answers):
    labels, _, predicted, _ = answers
    matrix = confusion_matrix(labels, predicted, labels=range(C))
    off = [(-matrix[t, p], t, p) for t in range(C) for p in range(C) if t != p and matrix[t, p]]
    found = worst_pairs(labels, predicted, 7)
    assert [(-pair.times, pair.true, pair.predicted) for pair in found] == sorted(off)[:7]
    assert [pair.out_of for pair in found] == [matrix[pair.true].sum() for pair in found]
    assert len(worst_pairs(labels, predicted, 1000)) == len(off) and worst_pairs(labels, labels, 5) == []


def test_accuracy_by_class_is_the_recall(answers):
    labels, _, predicted, _ = answers
    found = accuracy_by_class(labels, predicted == labels, C)
    recall = 100 * recall_score(labels, predicted, labels=range(C - 1), average=None)
    assert found[:-1] == pytest.approx(recall) and np.isnan(found[-1])


def test_bins_are_those_of_the_logits(answers):
    labels, logits, predicted, confidence = answers
    found = reliability_bins(predicted == labels, confidence)
    known = reliability(logits, torch.from_numpy(labels))
    assert [tuple(row.values()) for row in found] == [pytest.approx(row[:2]) for row in known]
    assert reliability_bins(np.array([True]), np.array([1.0])) == [{"confidence": 1.0, "accuracy": 1.0}]


def test_tenths_are_those_of_the_results(answers):
    labels, logits, predicted, _ = answers
    level = np.r_[0.0, 1.0, np.random.default_rng(1).random(N - 2) ** 3]
    known = by_level(logits, torch.from_numpy(labels), torch.from_numpy(level), logits)
    found = accuracy_by_tenth(predicted == labels, level)
    assert found == [{"decile": row["decile"], "accuracy": pytest.approx(row["accuracy"])} for row in known]


def test_a_level_on_a_border_is_in_one_tenth_wherever_it_was_kept():
    """0.7 in fp32 is below 0.7; results.json says by its ten times, which is 7."""
    level = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    labels, logits = torch.zeros(9, dtype=torch.long), torch.tensor([[1.0, 0.0]]).expand(9, 2)
    known = [row["decile"] for row in by_level(logits, labels, level, logits)]
    for kept in (level.numpy(), level.double().numpy()):
        assert [row["decile"] for row in accuracy_by_tenth(np.ones(9, bool), kept)] == known


def test_disagreement():
    labels = np.array([0, 0, 0, 1, 1, 2])
    first = np.array([0, 0, 1, 1, 0, 0])
    second = np.array([1, 0, 0, 2, 2, 1])
    found = disagreement(labels, first, second, np.array([0.5, 0.9, 0.8, 0.7, 0.3, 0.4]))
    assert [each.tolist() for each in found] == [[3, 0], [2], [5, 4]]
