"""``predictions.npz``: what the student of a run says of each image, derived again from its weights."""

import io
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
    good(*distill(folder / "shuffled", "--method", "dlkd", "--loss.shuffled", "true"))
    good(*distill(folder / "kd", "--method", "kd"))
    good(*distill(folder / "ce", "--method", "ce", "--data.held_out", 0))
    return folder


def test_which_arrays_are_there(runs):
    base = ("ids", "labels", "predicted", "confidence")
    held_out, test = ([f"{part}_{name}" for name in base] for part in ("held_out", "test"))
    taught = ("teacher", "teacher_confidence", "distance", "level", "temperature")
    of_teacher = {f"test_{name}" for name in taught}
    assert kept(runs / "noisy").keys() == {*held_out, *test, "held_out_clean", *of_teacher}
    assert kept(runs / "held_out").keys() == {*held_out, *(f"held_out_{name}" for name in taught)}
    without_level = {"test_teacher", "test_teacher_confidence"}
    # The temperature of another image says nothing of this one.
    assert kept(runs / "shuffled").keys() == {*held_out, *test, *of_teacher} - {"test_temperature"}
    assert kept(runs / "kd").keys() == {*held_out, *test, *without_level}
    assert kept(runs / "ce").keys() == {*test}
    for name in ("noisy", "held_out", "shuffled", "kd", "ce"):
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


@pytest.mark.parametrize(("run", "part"), [("noisy", "test"), ("held_out", "held_out"), ("kd", "test")])
def test_answers_of_the_teacher_are_those_of_its_weights(runs, teacher, run, part):
    samples = load_data(DataOptions(per_class=30)).part(part)
    loaded = load_model(None, teacher, 10, channels=1)
    p = softmax(logits_of(loaded.module, samples, loaded.input_format, None)[0].double().numpy(), axis=1)
    found = kept(runs / run)
    assert np.array_equal(found[f"{part}_teacher"], p.argmax(axis=1))
    assert found[f"{part}_teacher_confidence"] == pytest.approx(p.max(axis=1), abs=1e-4)
    accuracy = 100 * (found[f"{part}_teacher"] == samples.labels.numpy()).mean()
    assert results(runs / run)["teacher"][part]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(("run", "part"), [("noisy", "test"), ("held_out", "held_out")])
def test_level_is_the_rank_among_the_reference_and_temperature_follows(runs, run, part):
    found = kept(runs / run)
    content = (runs / run / "checkpoint.pt").read_bytes().split(b"\n", 1)[1]
    quantiles = torch.load(io.BytesIO(content), weights_only=True)["method"]["temperature.level.quantiles"].numpy()
    rank = np.interp(found[f"{part}_distance"], quantiles, np.linspace(0, 1, quantiles.size))
    assert found[f"{part}_level"] == pytest.approx(rank, abs=1e-4)
    assert found[f"{part}_temperature"] == pytest.approx(2 + 4 * rank, abs=1e-3)
    tenths = np.minimum((10 * found[f"{part}_level"]).astype(int), 9)
    told = {row["decile"]: row["samples"] for row in results(runs / run)["by_level"]}
    assert told == {k + 1: int((tenths == k).sum()) for k in np.unique(tenths)}


def test_digests_name_the_images_of_each_part(runs):
    """The same for the same images whatever their labels; no digest of test images that were not read."""
    told = {name: results(runs / name)["images"] for name in ("noisy", "held_out", "kd", "ce")}
    assert told["noisy"] == told["kd"] and told["noisy"].keys() == {"held_out", "test"}
    assert told["held_out"] == {"held_out": told["kd"]["held_out"]} and told["ce"] == {"test": told["kd"]["test"]}
    test = load_data(DataOptions(per_class=30)).test
    assert told["kd"]["test"] == test.digest() != load_data(DataOptions(seed=1)).test.digest()


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
