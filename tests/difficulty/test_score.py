"""Difficulty scores: closed forms, float64 derivations, and what each of them needs."""

import math

import numpy as np
import pytest
import torch

from dlkd.difficulty import DifficultyLevel, DifficultyScore, js_divergence, probe_distance

LOGITS = torch.tensor([[0.0, math.log(2.0), math.log(5.0)], [3.0, 3.0, 3.0]])  # probabilities 1/8, 2/8, 5/8; uniform
TARGET = torch.tensor([2, 0])
NEEDS_TEACHER = ("entropy", "max_probability", "margin", "energy")


def _softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_probability", [3 / 8, 2 / 3]),
        ("margin", [5 / 8, 1.0]),
        ("entropy", [-sum(p * math.log(p) for p in (1 / 8, 2 / 8, 5 / 8)) / math.log(3), 1.0]),
        ("energy", [-math.log(8), -3 - math.log(3)]),
        ("cross_entropy", [-math.log(5 / 8), math.log(3)]),
    ],
)
def test_closed_forms(name, expected):
    found = DifficultyScore(name)(LOGITS, target=TARGET)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_temperature_divides_the_logits():
    for name in NEEDS_TEACHER[:3]:
        torch.testing.assert_close(DifficultyScore(name, 3.0)(LOGITS * 3), DifficultyScore(name)(LOGITS))
    torch.testing.assert_close(DifficultyScore("energy", 3.0)(LOGITS * 3), 3 * DifficultyScore("energy")(LOGITS))


def test_js_is_the_textbook_sum():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 4, (50, 7)), rng.normal(0, 4, (50, 7))
    p, q = _softmax(a / 2), _softmax(b / 2)
    m = (p + q) / 2
    expected = ((p * np.log(p / m)).sum(1) + (q * np.log(q / m)).sum(1)) / 2
    found = js_divergence(torch.tensor(a), torch.tensor(b), temperature=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_js_at_its_ends():
    certain = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    torch.testing.assert_close(js_divergence(certain, certain.flip(0)), torch.full((2,), math.log(2)))
    assert js_divergence(certain, certain).tolist() == [0.0, 0.0]


def test_small_doubts_keep_their_digits():
    logits = torch.tensor([[20.0, 0.0, 0.0]])
    for name, expected in (("max_probability", 2 * math.exp(-20)), ("margin", 3 * math.exp(-20))):
        assert DifficultyScore(name)(logits).item() == pytest.approx(expected, rel=1e-5)


def test_distance_is_the_probe_distance():
    probe = LOGITS.flip(1)
    score = DifficultyScore("distance", 2.0)
    torch.testing.assert_close(score(LOGITS, probe_logits=probe), probe_distance(LOGITS, probe, temperature=2.0))
    assert score.column("global-0.3") == "global-0.3/l2/tau2"
    assert DifficultyScore("js").column("layer-0.1") == "layer-0.1/js/tau1"


def test_uncertain_rows_are_harder_by_every_score():
    sure, unsure = torch.tensor([[9.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.9, 0.8]])
    for name in (*NEEDS_TEACHER, "cross_entropy"):
        score = DifficultyScore(name)
        assert score(sure, target=torch.tensor([0])) < score(unsure, target=torch.tensor([0])), name


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="expected probe_logits for the difficulty by js"):
        DifficultyScore("js")(LOGITS)
    with pytest.raises(ValueError, match="expected a target"):
        DifficultyScore("cross_entropy")(LOGITS)
    with pytest.raises(ValueError, match="expected score to be one of"):
        DifficultyScore("loss")
    with pytest.raises(ValueError, match="distance_temperature"):
        DifficultyScore("js", 0.0)


def test_bounds():
    """The largest values, attained; and no absolute level where there is none."""
    uniform, certain = torch.zeros(1, 4), torch.tensor([[0.0, 0.0, 0.0, 1e4]])
    for name in ("entropy", "margin"):
        assert DifficultyScore(name)(uniform).item() == pytest.approx(DifficultyScore(name).bound)
        assert DifficultyScore(name)(certain).item() == 0
    with pytest.raises(ValueError, match="rank or batch"):
        DifficultyLevel("absolute", DifficultyScore("energy").bound)


def test_negative_scores_are_ranked():
    level = DifficultyLevel("rank", None)
    level.calibrate(torch.linspace(-10, -2, 1000))
    torch.testing.assert_close(
        level(torch.tensor([-10.0, -6.0, -2.0])), torch.tensor([0.0, 0.5, 1.0]), atol=2e-3, rtol=0
    )
