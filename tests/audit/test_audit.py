"""``dlkd audit`` as a user gives it: what it leaves, going on, and teachers of the folds as judges."""

import csv
import html
import ntpath
import shutil
import signal
import time
from collections import Counter

import numpy as np
import pytest
from audits import (
    DATA,
    FILES,
    FOLDS,
    MACHINE,
    NOISE,
    TAU,
    TRAINING,
    asked,
    column,
    kept,
    read,
    rows_of,
    sheet_of,
    words,
)
from refusals import refused
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from dlkd.audit.answers import Answers
from dlkd.audit.job import _results as results_of
from dlkd.audit.job import table_of
from dlkd.audit.judged import Judged
from dlkd.audit.options import AuditOptions
from dlkd.data import DataOptions, load_data

BY_FOLDS = ("--folds", FOLDS, *DATA, *MACHINE, *TRAINING)
COLUMNS = [
    *("id", "seen_by_teacher", "given_label", "teacher_label", "probe_label", "distance", "self_confidence", "margin"),
    *("score", "action", "suggested_label", "fold"),
]


@pytest.fixture(scope="module")
def by_folds(tmp_path_factory, good):
    out = tmp_path_factory.mktemp("audits") / "folds"
    return out, good("audit", "--out", out, *BY_FOLDS)


def test_what_it_leaves(by_folds, whole):
    out, done = by_folds
    assert {p.name for p in out.iterdir()} == FILES | {"folds", "answers"}
    assert {p.name for p in (out / "answers").iterdir()} == {"0.npz", "1.npz", "2.npz", "about.txt"}
    assert {p.name for p in (out / "folds").iterdir()} == {"0", "1", "2"}
    with (out / "audit.csv").open(newline="") as file:
        assert next(csv.reader(file)) == COLUMNS
    assert read(out / "run.json")["command"] == "audit"
    assert f"Look at them: {out / 'audit.html'}" in done.out and "part 3 of 3: its teacher agrees with" in done.out
    assert f"{int(whole.wrong.sum())} of 300 training labels were made wrong" in done.out


def test_every_image_once_and_by_a_teacher_that_has_not_seen_it(by_folds, whole):
    out, _ = by_folds
    ids, fold = column(out, "id").astype(int), column(out, "fold").astype(int)
    assert np.array_equal(ids, whole.ids)
    assert words(out, "given_label") == [whole.class_names[k] for k in whole.labels]
    for k in range(FOLDS):
        part = load_data(DataOptions(per_class=30, noise=NOISE, folds=FOLDS, fold=k))
        assert np.array_equal(ids[fold == k], part.held_out.ids)
        with np.load(out / "folds" / str(k) / "labels.npz") as labels:
            assert not np.intersect1d(labels["train_ids"], ids[fold == k]).size
            assert np.array_equal(np.sort(np.r_[labels["train_ids"], ids[fold == k]]), whole.ids)
            # On the labels as given, wrong ones too.
            place = np.searchsorted(whole.ids, labels["train_ids"])
            assert np.array_equal(labels["train_labels"], whole.labels.numpy()[place])
            assert labels["train_wrong"].any()
    assert set(words(out, "seen_by_teacher")) == {"no"}
    found = read(out / "audit.json")
    assert found["warning"] == "" and found["seen_by_teacher"] == {"no": 300, "unknown": 0, "probably": 0, "yes": 0}


def test_the_answers_are_those_of_the_fold_teachers(by_folds):
    out, _ = by_folds
    found = kept(out)
    for k in range(FOLDS):
        part = load_data(DataOptions(per_class=30, noise=NOISE, folds=FOLDS, fold=k)).held_out
        rows = np.searchsorted(found["ids"], part.ids)
        teacher, probe = (asked(out / "folds" / str(k), part, probe) for probe in (False, True))
        np.testing.assert_allclose(found["teacher"][rows], softmax(teacher, axis=1), atol=1e-5)
        np.testing.assert_allclose(found["probe"][rows], softmax(probe, axis=1), atol=1e-5)
        distance = np.linalg.norm(softmax(teacher / TAU, axis=1) - softmax(probe / TAU, axis=1), axis=1)
        np.testing.assert_allclose(found["distance"][rows], distance, atol=1e-4)
        assert distance.max() > 0.05


def test_the_columns_follow_from_the_predictions(by_folds):
    out, _ = by_folds
    found, rows = kept(out), np.arange(300)
    teacher, y = found["teacher"].astype(float), found["labels"]
    others = teacher.copy()
    others[rows, y] = -1
    np.testing.assert_allclose(column(out, "self_confidence"), teacher[rows, y], rtol=1e-6)
    np.testing.assert_allclose(column(out, "margin"), teacher[rows, y] - others.max(1), atol=1e-6)
    np.testing.assert_allclose(column(out, "distance"), found["distance"], rtol=1e-6)
    names = found["class_names"]
    assert words(out, "teacher_label") == names[found["teacher"].argmax(1)].tolist()
    assert words(out, "probe_label") == names[found["probe"].argmax(1)].tolist()
    # What an action follows from is in test_scores. Here: it is consistent, and counted.
    for row in rows_of(out):
        if row["action"] != "look":
            assert (row["action"] == "keep") == (row["suggested_label"] == row["given_label"])
    results = read(out / "audit.json")
    counts = {name: words(out, "action").count(name) for name in ("keep", "look", "relabel")}
    assert results["actions"] == counts and min(counts["keep"], counts["relabel"]) > 0
    assert results["images"] == 300 and results["classes"] == 10
    assert results["agreement"] == pytest.approx(100 * np.mean(found["teacher"].argmax(1) == y))
    given, suggested = words(out, "given_label"), words(out, "suggested_label")
    pairs = Counter((a, b) for a, b in zip(given, suggested, strict=True) if a != b)
    found_pairs = [((pair["given"], pair["suggested"]), pair["images"]) for pair in results["pairs"]]
    assert found_pairs == pairs.most_common(20)
    page = (out / "audit.html").read_text()
    assert results["audit"] in page and f"{counts['relabel']} labels " in page


def test_pairs_are_of_two_classes():
    """A label to look at may be the likeliest all the same: it is confused with no other."""
    samples = load_data(DataOptions(per_class=2, held_out=0.0)).train
    n = len(samples)
    answers = Answers(samples.ids, np.full((n, 10), 0.1), np.full((n, 10), 0.1), np.zeros(n))
    judged = Judged(samples, answers, np.full(n, "no"), np.zeros(n, int), oracle=False, remarks=())
    names = np.array(["3", "3", "5", *["0"] * (n - 3)])
    columns = table_of(judged) | {"given_label": names, "suggested_label": np.array(["3", "8", "5", *["0"] * (n - 3)])}
    columns["action"] = np.array(["look", "look", "look", *["keep"] * (n - 3)])
    assert results_of(AuditOptions(), judged, columns)["pairs"] == [{"given": "3", "suggested": "8", "images": 1}]


def test_the_sheet_suggests_what_the_table_does(by_folds):
    """And not what the teacher says, which alone is no reason to change a label."""
    out, _ = by_folds
    data = sheet_of(out)
    suggested, teacher = ([data["classes"][k] for k in data[name]] for name in ("suggested", "teacher"))
    assert suggested == words(out, "suggested_label") and teacher == words(out, "teacher_label")
    assert suggested != teacher


def test_wrong_labels_get_lower_scores(by_folds, whole):
    out, _ = by_folds
    for name in ("score", "self_confidence", "margin"):
        score = column(out, name)
        assert roc_auc_score(~whole.wrong, score) > 0.8, name
    acted = np.array(words(out, "action")) != "keep"
    assert acted[whole.wrong].mean() > 2 * acted[~whole.wrong].mean()


def test_the_same_command_again_and_as_parquet(by_folds, good, tmp_path):
    from pyarrow import parquet

    out = shutil.copytree(by_folds[0], tmp_path / "copy")
    before = (out / "audit.csv").read_bytes()
    trained = (out / "folds/0/student.safetensors").stat().st_mtime_ns
    (out / "audit.csv").unlink()
    (out / ".audit.csv.abcd1234.tmp").write_text("half of a killed writer's")
    done = good("audit", "--out", out, *BY_FOLDS)
    assert (out / "audit.csv").read_bytes() == before and not list(out.glob(".*.tmp"))
    assert "part 1" not in done.out  # nobody was asked again
    good("audit", "--out", out, *BY_FOLDS, "--table", "parquet", "--thumbnails", 5)
    table = parquet.read_table(out / "audit.parquet")
    assert table.column_names == COLUMNS
    for name in COLUMNS:
        values = table.column(name).to_pylist()
        assert [str(v) for v in values] == words(out, name)
    assert (out / "folds/0/student.safetensors").stat().st_mtime_ns == trained
    assert (out / "audit.html").read_text().count("data:image/webp") < 300


def test_lost_and_damaged_answers_are_asked_for_again(by_folds, good, tmp_path):
    out = shutil.copytree(by_folds[0], tmp_path / "copy")
    before = (out / "audit.csv").read_bytes()
    (out / "answers/0.npz").write_bytes((out / "answers/0.npz").read_bytes()[:-100])
    (out / "answers/2.npz").unlink()
    done = good("audit", "--out", out, *BY_FOLDS)
    assert "part 1 of 3" in done.out and "part 2 of 3" not in done.out and "part 3 of 3" in done.out
    assert (out / "audit.csv").read_bytes() == before


def test_stopped_in_two_folds_and_gone_on_with(by_folds, good, dlkd_started, tmp_path):
    out = tmp_path / "audit"
    for fold, how in ((0, signal.SIGKILL), (1, signal.SIGTERM)):
        process = dlkd_started(["audit", "--out", str(out), *map(str, BY_FOLDS)])
        deadline = time.monotonic() + 120
        while not (out / f"folds/{fold}/checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        if how == signal.SIGTERM:
            assert process.returncode == 75 and err.startswith("dlkd: stopped; ") and len(err.splitlines()) == 1
        else:
            assert process.returncode == -how
        assert not (out / "audit.csv").exists()
    good("audit", "--out", out, *BY_FOLDS)
    assert (out / "audit.csv").read_bytes() == (by_folds[0] / "audit.csv").read_bytes()
    assert {p.name for p in out.iterdir()} == FILES | {"folds", "answers"}


def test_killed_before_it_had_begun(dlkd, tmp_path):
    """Nothing but the marker is there: the same command begins."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text('{"command": "audit"}')
    refused(dlkd("audit", "--out", tmp_path / "out", *BY_FOLDS[2:], "--folds", 31), "31 folds")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run.json"]  # as it was


def test_another_audit_in_the_folder(by_folds, dlkd, good, tmp_path):
    out = shutil.copytree(by_folds[0], tmp_path / "copy")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for change in (("--seed", 1), ("--folds", 2), ("--data.noise", 0.1)):
        refused(dlkd("audit", "--out", out, *BY_FOLDS, *change), "holds another audit; give --overwrite")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    few = ("--data.per_class", 6, "--data.noise", 0, "--folds", 2, "--epochs", 1)
    good("audit", "--out", out, *BY_FOLDS, *few, "--overwrite")
    assert len(rows_of(out)) == 60 and {p.name for p in (out / "folds").iterdir()} == {"0", "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]  # the replaced one is not left aside


def test_folders_that_hold_something_else(dlkd, teacher, tmp_path):
    refused(dlkd("audit", "--out", teacher, *BY_FOLDS), "holds something else")
    (tmp_path / "mine.txt").write_text("mine")
    refused(dlkd("audit", "--out", tmp_path, *BY_FOLDS, "--overwrite"), "no run of dlkd")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    refused(dlkd("audit", "--out", teacher.parent, "--teacher.weights", teacher), "outside the folder")


MARKUP = ("<img src=x onerror=alert(1)>.png", '"&amp;<script>.png', "'), drop;\n.png")


@pytest.fixture
def markup(photos, tmp_path):
    """A folder of images with names that a browser or a CSV reader might take for something else."""
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "one").rename(root / '<b>one,"1"')
    for name, file in zip(MARKUP, sorted((root / "zero").iterdir()), strict=False):
        file.rename(file.with_name(name))
    return root


FOLDER = (
    *("--data.name", "folder", "--data.image_size", 16, "--data.workers", 0, "--data.test_share", 0.3, *MACHINE),
    *("--model.name", "resnet8x0.5", "--epochs", 1, "--optim.batch_size", 7, "--folds", 2, "--data.held_out", 0),
)


def test_names_with_markup_are_text(markup, good, dlkd, tmp_path):
    out = tmp_path / "audit"
    good("audit", "--out", out, "--data.root", markup, *FOLDER)
    samples = load_data(DataOptions("folder", markup, held_out=0.0, test_share=0.3)).train
    assert words(out, "path") == [samples.pixels.name(k) for k in range(len(samples))]
    assert {f"zero/{name}" for name in MARKUP} & set(words(out, "path"))
    assert set(words(out, "given_label")) == {"zero", '<b>one,"1"'}
    page = (out / "audit.html").read_text()
    assert "<img src=x" not in page and "<b>one" not in page
    assert any(word in page for word in ("\\u003cimg src=x", html.escape("<img src=x")))
    # Labels that change under an audit are not mixed with answers about the old ones.
    before = (out / "audit.csv").read_bytes()
    chosen = next(k for k in range(len(samples)) if samples.pixels.name(k).startswith("zero/1"))
    file = samples.pixels.paths[chosen]
    file.rename(markup / '<b>one,"1"' / f"moved{file.name}")
    refused(dlkd("audit", "--out", out, "--data.root", markup, *FOLDER), "images or labels are not those")
    assert (out / "audit.csv").read_bytes() == before


def test_images_on_another_drive_have_no_path_from_the_sheet(photos, good, tmp_path, monkeypatch):
    """As on Windows, where an audit must not end with that."""
    out = tmp_path / "audit"
    with monkeypatch.context() as patched:
        patched.setattr("os.path.relpath", lambda path, start: ntpath.relpath(f"D:{path}", f"C:{start}"))
        good("audit", "--out", out, "--data.root", photos, *FOLDER)
    assert set(sheet_of(out)["paths"]) == {""} and len(set(words(out, "path"))) == len(rows_of(out))
    good("audit", "--out", out, "--data.root", photos, *FOLDER)
    assert all((out / path).is_file() for path in sheet_of(out)["paths"])
