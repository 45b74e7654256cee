"""Which runs may stand side by side, what is said of those that differ, and of folders that are no runs."""

import json
import re
import shutil

import numpy as np
import pytest


@pytest.fixture(scope="module")
def others(tmp_path_factory, train, distill, good, photos):
    """Runs that differ from those of ``runs`` in one thing each."""
    folder = tmp_path_factory.mktemp("others")
    good(*train(folder / "noisy", "--data.noise", 0.4))
    good(*train(folder / "seed", "--data.seed", 1))
    good(*train(folder / "few", "--data.per_class", 20))
    good(*train(folder / "held_out", "--score_on", "held_out"))
    good(*train(folder / "held_out_noisy", "--score_on", "held_out", "--data.noise", 0.4))
    files = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 16, "--data.workers", 0)
    good(*(a for a in train(folder / "photos", *files, "--optim.batch_size", 8)))
    return folder


def test_other_labels_are_told(runs, others, page_of, tmp_path):
    page = page_of(tmp_path / "p.html", "--runs", runs / "baseline", others / "noisy")
    assert (
        "noisy learnt from other labels than baseline: 40.0 % symmetric noise instead of labels without added "
        in (page.words[""])
    )


def test_labels_of_the_same_noise_are_told_apart(runs, others, copy_of, page_of, tmp_path):
    """By what the run cards say of them, and nothing is said twice."""

    def told(digest, **data):
        other = copy_of(others / "noisy", "other")
        card = json.loads((other / "run.json").read_text())
        card["data"]["labels"] = digest
        card["settings"]["data"] |= data
        (other / "run.json").write_text(json.dumps(card))
        words = page_of(tmp_path / "p.html", "--runs", others / "noisy", other, "--overwrite").words[""]
        shutil.rmtree(other)
        return words

    start = "other learnt from other labels than noisy"
    assert f"{start}: cleaned by c.csv instead of not cleaned." in told("x", cleaned="/of/mine/c.csv")
    assert f"{start}: a share of 0.5 of the labels instead of a share of 1.0 of the labels." in told("x", labelled=0.5)
    both = "cleaned by c.csv, labels of --data.seed 1 instead of not cleaned, labels of --data.seed 0"
    assert f"{start}: {both}." in told("x", cleaned="c.csv", seed=1)
    assert f"{start}." in told("x") and "learnt from" not in told(
        json.loads((others / "noisy" / "run.json").read_text())["data"]["labels"]
    )


def test_other_training_images_are_told(runs, others, page_of, tmp_path):
    page = page_of(tmp_path / "p.html", "--runs", runs / "baseline", others / "few")
    assert "few was trained on other images than baseline: 180 instead of 270." in page.words[""]


def test_another_test_split_is_refused(runs, others, refused):
    refused(("--runs", runs / "student", others / "seed"), "the same test images", runs / "student", others / "seed")


def test_other_data_are_refused(runs, others, refused):
    refused(("--runs", runs / "student", others / "photos"), "the same data", "digits", "folder")


def test_other_classes_are_refused(runs, copy_of, refused):
    other = copy_of(runs / "student", "other")
    about = json.loads((other / "student.json").read_text())
    about["class_names"][3] = "three"
    (other / "student.json").write_text(json.dumps(about))
    refused(("--runs", runs / "student", other), "the same classes", "'3'", "'three'")
    about["class_names"].append("ten")
    (other / "student.json").write_text(json.dumps(about))
    refused(("--runs", runs / "student", other), "the same classes", "10 in", "11 in")


def test_held_out_images_are_compared_where_all_have_those(runs, others, page_of, refused, arrays, tmp_path):
    """By the true labels, where those as given are wrong."""
    noisy = others / "held_out_noisy"
    page = page_of(tmp_path / "p.html", "--runs", runs / "student", noisy)
    assert "Figures are of 30 held-out images." in page.words[""]
    kept = arrays(noisy)
    right = 100 * (kept["held_out_predicted"] == kept["held_out_clean"]).mean()
    given = 100 * (kept["held_out_predicted"] == kept["held_out_labels"]).mean()
    row = {row["run"]: row for row in page.rows("Figures")}["held_out_noisy"]
    assert row["accuracy, %"] == f"{right:.2f}" and right != given
    assert "by the true labels" in page.words["Figures"]


def test_runs_without_figures_of_the_same_part_are_refused(runs, others, copy_of, refused):
    other = copy_of(runs / "baseline", "other")
    results = json.loads((other / "results.json").read_text())
    del results["held_out"]
    (other / "results.json").write_text(json.dumps(results))
    refused(("--runs", other, others / "held_out"), "figures of the same images", "--score_on")


def test_an_older_run_is_shown_without_what_it_does_not_know(runs, copy_of, page_of, refused, tmp_path):
    old = copy_of(runs / "student", "old")
    (old / "predictions.npz").unlink()
    results = json.loads((old / "results.json").read_text())
    del results["images"]
    (old / "results.json").write_text(json.dumps(results))
    page = page_of(tmp_path / "p.html", "--runs", old, runs / "baseline")
    assert "old is older and does not say which test images it was scored on" in page.words[""]
    assert "old keeps no answers image by image (predictions.npz)" in page.words[""]
    assert {row["run"] for row in page.rows("Figures")} == {"old", "baseline"}
    assert {row["run"] for row in page.rows("Worst class pairs")} == {"baseline"}
    alone = page_of(tmp_path / "q.html", "--runs", old)
    assert list(alone.words)[1:] == ["Figures", "Learning curves", "Calibration", "Accuracy by difficulty", "Cost"]
    assert "each run's own" in alone.words["Accuracy by difficulty"]
    card = json.loads((old / "run.json").read_text())
    card["data"]["test"] += 1
    (old / "run.json").write_text(json.dumps(card))
    refused(("--runs", runs / "baseline", old), "the same test images")


def test_answers_of_an_older_kind(runs, copy_of, arrays, page_of, tmp_path):
    """With distances, but neither levels nor what the teacher said."""
    old = copy_of(runs / "student", "old")
    base = ("ids", "labels", "predicted", "confidence", "distance")
    kept = {k: v for k, v in arrays(old).items() if k in {f"test_{name}" for name in base}}
    np.savez(old / "predictions.npz", **kept)
    page = page_of(tmp_path / "p.html", "--runs", old, "--images", 1)
    k = int(kept["test_distance"].argmax())
    assert f"distance {kept['test_distance'][k]:.3g}" in page.words["Images"] and "teacher" not in page.words["Images"]


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("results.json", lambda b: b[:100], "results.json is damaged"),
        ("results.json", lambda b: b"[1]", "results.json is damaged"),
        ("results.json", lambda b: b.replace(b'"seed": 0', b'"seed": []'), "is damaged (TypeError"),
        ("results.json", lambda b: b.replace(b'"test": {', b'"test": 3, "x": {'), "is damaged (AttributeError"),
        ("run.json", lambda b: b.replace(b'"data": {', b'"dates": {', 1), "is damaged (KeyError"),
        ("student.json", lambda b: b"\xff\xfe", "student.json is damaged"),
        ("metrics.csv", lambda b: b.replace(b"1", b"one"), "is damaged (ValueError"),
        ("predictions.npz", lambda b: b[: len(b) // 2], "is damaged (ValueError"),
        (
            "results.json",
            lambda b: b.replace(b'\n  "test": {', b'"test": {}, "x": {'),
            "results.json: the accuracy of test",
        ),
        (
            "results.json",
            lambda b: b.replace(b'\n  "held_out": {', b'"held_out": {}, "x": {'),
            "the accuracy of held_out",
        ),
        ("results.json", lambda b: re.sub(rb'("accuracy": )[\d.]+', rb"\1null", b), "is no number"),
        ("results.json", lambda b: re.sub(rb'("accuracy": )[\d.]+', rb"\1NaN", b), "is no number"),
        ("run.json", lambda b: b.replace(b'"test": 359', b'"test": 0'), "run.json: there are no test images"),
    ],
)
def test_damaged_runs(runs, copy_of, refused, file, change, words):
    run = copy_of(runs / "student", "copy")
    content = (run / file).read_bytes()
    (run / file).write_bytes(change(content))
    assert (run / file).read_bytes() != content
    refused(("--runs", runs / "baseline", run), words, run)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("test_predicted", np.full(359, 10)),
        ("test_predicted", np.full(359, -1)),
        ("test_predicted", np.zeros(359)),
        ("test_predicted", np.zeros(0, int)),
        ("test_labels", np.zeros(3, int)),
        ("test_teacher", np.zeros((359, 2), int)),
        ("test_confidence", np.full(359, np.nan)),
        ("test_level", np.zeros(359, "U3")),
    ],
)
def test_answers_that_are_none(runs, copy_of, arrays, refused, name, values):
    run = copy_of(runs / "student", "copy")
    np.savez(run / "predictions.npz", **{**arrays(run), name: values})
    refused(("--runs", run), f"predictions.npz: {name}", run)


def test_a_data_set_whose_name_is_no_text(runs, copy_of, page_of, tmp_path):
    odd = copy_of(runs / "baseline", "odd")
    (odd / "run.json").write_text((odd / "run.json").read_text().replace('"data": "digits"', '"data": "\\ud800x"'))
    page = page_of(tmp_path / "p.html", "--runs", odd, "--images", 0)
    assert r"1 run on \ud800x" in page.words[""]


def test_folders_that_are_no_runs(runs, refused, tmp_path):
    refused((), "expected folders of runs")
    refused(("--runs", tmp_path / "none"), "there is nothing")
    (tmp_path / "empty").mkdir()
    refused(("--runs", runs / "student", tmp_path / "empty"), "found no run")
    (tmp_path / "file").touch()
    refused(("--runs", tmp_path / "file"), "that is a file")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text(json.dumps({"command": "distill"}))
    refused(("--runs", tmp_path / "half"), "is not finished", "dlkd distill --resume --out")
    shutil.copytree(runs / "student", tmp_path / "audit")
    (tmp_path / "audit" / "run.json").write_text(json.dumps({"command": "audit"}))
    refused(("--runs", tmp_path / "audit"), "one of dlkd audit")


def test_options_that_make_no_sense(runs, dlkd, refused, tmp_path):
    refused(("--runs", runs / "student", "--images", -1), "--images to be between 0 and 1000")
    refused(("--runs", runs / "student", "--baseline", tmp_path / "none"), "there is nothing")
    done = dlkd("report", "--runs", runs / "student", "--out", tmp_path / "p.pdf")
    assert done.status == 2 and "to end with .html" in done.err
    done = dlkd("report", "--runs", runs / "student", "--out", tmp_path / "no" / "p.html")
    assert done.status == 2 and "the folder of --out" in done.err and not (tmp_path / "no").exists()
