"""``predictions.npz``: what the student of a run says of each image, derived again from its weights."""

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from dlkd import DataOptions
from dlkd.data import load_data
from dlkd.evaluate import logits_of
from dlkd.models import load_model

NOISE = ("--data.noise", 0.3)


def kept(run):
    with np.load(run / "predictions.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def results(run):
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory, distill, good):
    """Scored on test images with wrong labels in training, and on held-out images without."""
    folder = tmp_path_factory.mktemp("predictions")
    good(*distill(folder / "noisy", *NOISE, "--method", "dlkd"))
    good(*distill(folder / "held_out", "--method", "dlkd", "--score_on", "held_out"))
    good(*distill(folder / "ce", "--method", "ce", "--data.held_out", 0))
    return folder


def test_which_arrays_are_there(runs):
    base = ("ids", "labels", "predicted", "confidence")
    held_out, test = ([f"{part}_{name}" for name in base] for part in ("held_out", "test"))
    assert kept(runs / "noisy").keys() == {*held_out, *test, "held_out_clean", "test_distance"}
    assert kept(runs / "held_out").keys() == {*held_out, "held_out_distance"}
    assert kept(runs / "ce").keys() == {*test}
    for name in ("noisy", "held_out", "ce"):
        for part in ("held_out", "test"):
            assert len({len(v) for k, v in kept(runs / name).items() if k.startswith(part)}) <= 1


def test_answers_are_those_of_the_student(runs):
    data = load_data(DataOptions(per_class=30, noise=0.3))
    student = load_model(None, runs / "noisy", 10, channels=1)
    found = kept(runs / "noisy")
    for part in ("held_out", "test"):
        samples = data.part(part)
        logits, labels = logits_of(student.module, samples, student.input_format, None)
        p = softmax(logits.double().numpy(), axis=1)
        assert np.array_equal(found[f"{part}_ids"], samples.ids)
        assert np.array_equal(found[f"{part}_labels"], labels.numpy())
        assert np.array_equal(found[f"{part}_predicted"], p.argmax(axis=1))
        assert found[f"{part}_confidence"] == pytest.approx(p.max(axis=1), rel=1e-6)
        assert torch.equal(torch.from_numpy(found[f"{part}_predicted"]), logits.argmax(dim=1))


def test_true_labels_are_those_of_the_data(runs):
    found, target = kept(runs / "noisy"), load_digits().target
    assert np.array_equal(found["held_out_clean"], target[found["held_out_ids"]])
    assert np.array_equal(found["test_labels"], target[found["test_ids"]])
    assert 0 < (found["held_out_labels"] != found["held_out_clean"]).sum() < 30


@pytest.mark.parametrize(("run", "parts"), [("noisy", ("held_out", "test")), ("held_out", ("held_out",))])
def test_accuracies_of_the_results_follow(runs, run, parts):
    found, told = kept(runs / run), results(runs / run)
    for part in parts:
        right = found[f"{part}_predicted"] == found[f"{part}_labels"]
        assert told[part]["accuracy"] == pytest.approx(100 * right.mean())
        confidence = found[f"{part}_confidence"].astype(float)
        which = np.ceil(confidence * 15).clip(1, 15)
        gaps = [abs((right[which == b] - confidence[which == b]).sum()) for b in np.unique(which)]
        assert told[part]["ece"] == pytest.approx(100 * sum(gaps) / len(right), rel=1e-4)
    clean = "held_out_clean" in found
    assert ("held_out_clean" in told) == clean
    if clean:
        right = found["held_out_predicted"] == found["held_out_clean"]
        assert told["held_out_clean"]["accuracy"] == pytest.approx(100 * right.mean())


def test_scored_on_held_out_images_alone(runs):
    """Nothing of a test image is in any file of the run."""
    run = runs / "held_out"
    told = results(run)
    assert "test" not in told and told["teacher"].keys() >= {"held_out"} and "test" not in told["teacher"]
    card = json.loads((run / "student.json").read_text())["card"]
    assert card["held_out_accuracy"] == told["held_out"]["accuracy"] and "test_accuracy" not in card


def test_distances_are_in_the_order_of_the_images(runs, good, teacher, tmp_path, table):
    """Against those of ``dlkd difficulty``, by the number of the image."""
    out = tmp_path / "scores.csv"
    good(
        *("difficulty", "--teacher.weights", teacher, "--data.per_class", 30, "--split", "held_out"),
        *("--data.held_out", 0.1, "--out", out, "--device", "cpu"),
    )
    scores = {int(row["id"]): row["distance"] for row in table(out)}
    found = kept(runs / "held_out")
    theirs = np.array([scores[i] for i in found["held_out_ids"]])
    assert found["held_out_distance"] == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert spearmanr(found["held_out_distance"], theirs).statistic > 0.999
