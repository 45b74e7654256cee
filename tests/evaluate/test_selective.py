"""The area under the risk–coverage curve against sums over pairs, all orders, and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.evaluate import aurc, excess_aurc


def binary(confidence, wrong):
    """Logits ``[N, 2]`` whose softmax names class 0 with that confidence, and labels that make it right or wrong."""
    c = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([c, 1 - c], dim=1).log(), torch.tensor(wrong).long()


def area_by_pairs(confidence, wrong):
    """An error counts 1/i in every share of i samples that holds it; among equals it is anywhere."""
    n, total = len(confidence), 0.0
    for c, error in zip(confidence, wrong, strict=True):
        above = sum(other > c for other in confidence)
        equal = sum(other == c for other in confidence)
        for rank in range(above + 1, above + equal + 1):
            total += error / equal * sum(1 / i for i in range(rank, n + 1))
    return total / n


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([3, 1000]))
def test_against_sums_over_pairs(seed, n, values):
    draw = np.random.default_rng(seed)
    confidence = draw.integers(1, values + 1, n) / (2 * values + 2) + 0.5  # many ties, or few
    wrong = draw.random(n) < 0.4
    expected = area_by_pairs(confidence, wrong)
    # The best order: no error before a right answer.
    best = area_by_pairs(np.where(wrong, 0.0, 1.0), wrong)
    logits, labels = binary(confidence, wrong)
    assert aurc(logits, labels) == pytest.approx(100 * expected, abs=1e-9)
    assert excess_aurc(logits, labels) == pytest.approx(100 * (expected - best), abs=1e-9)


def test_ties_are_the_mean_over_all_orders():
    confidence, wrong = [0.9, 0.7, 0.7, 0.7, 0.7, 0.6], [0, 1, 0, 0, 1, 1]
    areas = []
    for order in itertools.permutations(range(1, 5)):
        errors = np.array([wrong[k] for k in (0, *order, 5)])
        areas.append((errors.cumsum() / np.arange(1, 7)).mean())
    assert aurc(*binary(confidence, wrong)) == pytest.approx(100 * np.mean(areas))
    # Whatever order they came in.
    for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
        shuffled = binary([confidence[k] for k in order], [wrong[k] for k in order])
        assert aurc(*shuffled) == pytest.approx(100 * np.mean(areas), rel=1e-12)


def test_closed_forms():
    # The one error of four comes last, so it weighs only in the whole: ¼·¼. First, it weighs in all: ¼·(1 + ½ + ⅓ + ¼).
    assert aurc(*binary([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1])) == pytest.approx(100 / 16)
    assert excess_aurc(*binary([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert aurc(*binary([0.9, 0.8, 0.7, 0.6], [1, 0, 0, 0])) == pytest.approx(100 / 4 * 25 / 12)
    # Confidence that says nothing: the error rate. No error, only errors: nothing to order.
    assert aurc(torch.zeros(8, 4), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])) == pytest.approx(25)
    for wrong, area in (([0, 0, 0], 0), ([1, 1, 1], 100)):
        assert aurc(*binary([0.9, 0.7, 0.8], wrong)) == area and excess_aurc(*binary([0.9, 0.7, 0.8], wrong)) == 0


def test_best_order_is_near_the_approximation_of_the_paper():
    draw = np.random.default_rng(0)
    wrong = draw.random(20_000) < 0.3
    logits, labels = binary(draw.uniform(0.51, 0.99, wrong.size), wrong)
    r = wrong.mean()
    assert aurc(logits, labels) - excess_aurc(logits, labels) == pytest.approx(
        100 * (r + (1 - r) * np.log(1 - r)), abs=0.01
    )


def test_half_precision_and_huge_logits():
    logits, labels = torch.tensor([[1e4, 0.0], [1e4, 0.0], [0.0, 5.0]]), torch.tensor([0, 1, 1])
    # The first two are sure alike, the third a little less.
    assert aurc(logits, labels) == pytest.approx(100 / 3 * (0.5 + 0.5 + 1 / 3))
    assert aurc(logits.bfloat16(), labels) == aurc(logits, labels)
