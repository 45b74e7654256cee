"""What labels ask of a lesson, its temperature and the probe's share in it, where that is known by construction."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

ROOT = Path(__file__).parents[2]
N, CLASSES, ERROR = 4000, 10, 1.5


@pytest.fixture
def load(monkeypatch):
    """A script by its name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def drawn(z, seed=0):
    """Labels from softmax(z), one-hot."""
    p = torch.softmax(z, dim=1)
    label = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    return torch.nn.functional.one_hot(label, z.shape[1]).double()


def normal(scale, seed):
    return scale * torch.randn(N, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_search(load, true):
    script, z = load("temperature_by_level"), normal(3 * true, 1)
    target = drawn(z / true)
    weight = torch.arange(N) % 3

    def cost(log_t):
        p = z / np.exp(log_t)
        return float(-(weight * (target * (p - p.logsumexp(dim=1, keepdim=True))).sum(dim=1)).sum())

    searched = np.exp(minimize_scalar(cost, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x)
    found = script.best_temperature(z, target, weight)
    assert found == pytest.approx(searched, rel=1e-5) and found == pytest.approx(true, rel=0.1)


def test_fifths_of_two_temperatures_are_worth_what_they_cost(load):
    script = load("temperature_by_level")
    true = normal(2.0, 2)
    fifth = np.arange(N) % script.FIFTHS
    hot = torch.from_numpy(fifth >= 3)
    z = torch.where(hot[:, None], 3 * true, true)
    worth = script.worth(z, drawn(true), np.arange(N), fifth, np.random.default_rng(0))
    target = drawn(true)
    flat = script.losses(z, target, script.best_temperature(z, target)).mean()
    exact = script.losses(true, target, 1.0).mean()
    assert worth["mean"] == pytest.approx(float(flat - exact), abs=4 * worth["error"]) and worth["mean"] > 0.02


def test_pairs_are_drawn_not_images(load):
    """Two images of a pair that gain alike say as much as one: the error is √2 times that over images."""
    script = load("temperature_by_level")
    gain = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    both, pair = gain.repeat(2), np.tile(np.arange(200), 2)
    alone, found = script.mean_of(gain, np.arange(200)), script.mean_of(both, pair)
    assert alone == {"mean": float(gain.mean()), "error": float(gain.std() / 200**0.5)}
    assert found == pytest.approx(alone, rel=1e-12)
    assert script.mean_of(both, np.arange(400))["error"] == pytest.approx(alone["error"] / 2**0.5, rel=0.01)
    # What is gained on one image of a pair and lost on the other says nothing.
    assert script.mean_of(torch.cat([gain, -gain]), pair) == {"mean": 0.0, "error": 0.0}


def test_every_error_of_mixed_images_is_over_pairs(load):
    script, true, pair = load("mixtures"), normal(1.0, 10)[:200], np.tile(np.arange(200), 2)
    teacher, probe, target = (x.repeat(2, 1) for x in (true, normal(1.0, 11)[:200], drawn(true)))
    half, fifth = pair % 2, pair // 2 % script.FIFTHS
    found = script.mixtures(teacher, probe, target, pair, half, fifth)
    alone = script.mixtures(*(x[:200] for x in (teacher, probe, target)), np.arange(200), half[:200], fifth[:200])
    for key in ("best", "by_fifth"):
        assert found[key]["nats"] == pytest.approx(alone[key]["nats"], rel=1e-6, abs=1e-9)
    assert found["factors"]["0.5"]["nats"] == pytest.approx(alone["factors"]["0.5"]["nats"], rel=1e-6, abs=1e-9)
    worth, draw = load("temperature_by_level").worth, np.random.default_rng
    once = worth(teacher[:200], target[:200], np.arange(200), fifth[:200], draw(0))
    assert worth(teacher, target, pair, fifth, draw(0)) == pytest.approx(once, rel=1e-6)


def test_a_probe_that_errs_twice_as_far_is_gone_on_from(load):
    """z_t = z + e and z_p = z + 2·e, so that z_t + 1·(z_t − z_p) = z: b = 1 is found, and is worth what e costs."""
    script, true, error = load("mixtures"), normal(2.0, 3), normal(ERROR, 4)
    target, half, fifth = drawn(true), np.arange(N) % 2, np.arange(N) // 2 % script.FIFTHS
    found = script.mixtures(true + error, true + 2 * error, target, np.arange(N), half, fifth)
    assert found["best"]["factors"] == [1.0, 1.0] and found["by_fifth"]["factors"] == [[1.0, 1.0]] * script.FIFTHS
    losses = load("temperature_by_level")
    alone = losses.losses(true + error, target, losses.best_temperature(true + error, target)).mean()
    worth = float(alone - losses.losses(true, target, 1.0).mean())
    assert found["best"]["nats"] == found["factors"]["1"]["nats"]
    assert found["best"]["nats"]["mean"] == pytest.approx(worth, rel=0.02) and worth > 0.1
    assert found["factors"]["-1"]["nats"]["mean"] < 0 < found["factors"]["0.5"]["nats"]["mean"]


def test_a_probe_of_the_same_error_is_mixed_in(load):
    """Of two independent errors the mean is the smaller one: b = −0.5."""
    script, true = load("mixtures"), normal(2.0, 5)
    found = script.mixtures(
        *(true + normal(ERROR, 6), true + normal(ERROR, 7), drawn(true)),
        *(np.arange(N), np.arange(N) % 2, np.zeros(N, dtype=int)),
    )
    assert found["best"]["factors"] == [-0.5, -0.5] and found["best"]["nats"]["mean"] > 0.05
    assert found["factors"]["-0.5"]["accuracy"] > found["alone"]["accuracy"]


def test_a_probe_that_is_the_teacher_is_worth_nothing(load):
    script, true = load("mixtures"), normal(2.0, 8)
    found = script.mixtures(true, true, drawn(true), np.arange(N), np.arange(N) % 2, np.arange(N) % script.FIFTHS)
    assert found["best"]["nats"] == found["by_fifth"]["nats"] == {"mean": 0.0, "error": 0.0}
    assert all(of["accuracy"] == found["alone"]["accuracy"] for of in found["factors"].values())


def test_the_files_are_whole(load):
    names = list(load("score_answers").TEACHERS)
    script = load("mixtures")
    found = json.loads((ROOT / "results" / "mixtures.json").read_text())
    rows = [(row["teacher"], row["view"], row["sparsity"]) for row in found["rows"]]
    assert rows == [(name, view.name, share) for name in names for view in script.VIEWS for share in script.SPARSITIES]
    assert all(row["factors"].keys() == {f"{b:g}" for b in script.FACTORS} for row in found["rows"])
    levels = json.loads((ROOT / "results" / "temperature-by-level.json").read_text())
    rows = [(row["teacher"], row["view"], row["score"]) for row in levels["rows"]]
    views, scores = load("temperature_by_level").VIEWS, load("temperature_by_level").SCORES
    assert rows == [(name, view.name, score) for name in names for view in views for score in scores]
    for file in (found, levels):
        assert {"versions", "machine", "threads", "settings"} <= file.keys()
