"""``dlkd audit`` as a user gives it: what it leaves, who judged whom, going on, and every kind of judge."""

import copy
import csv
import html
import json
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from dlkd.audit.heads import PENALTIES
from dlkd.data import DataOptions, load_data
from dlkd.models import build_model, load_model

FOLDS, NOISE, TAU = 3, 0.2, 0.25
DATA = ("--data.per_class", 30, "--data.noise", NOISE)
MACHINE = ("--device", "cpu", "--engine.threads", 1)
TRAINING = (
    *("--model.name", "resnet8x0.5", "--epochs", 8, "--engine.checkpoint_every", 2),
    *("--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16),
)
BY_FOLDS = ("--folds", FOLDS, *DATA, *MACHINE, *TRAINING)
FILES = {"run.json", "config.yaml", "audit.csv", "audit.html", "audit.json", "predictions.npz"}
COLUMNS = [
    *("id", "seen_by_teacher", "given_label", "teacher_label", "probe_label", "distance", "self_confidence", "margin"),
    *("score", "action", "suggested_label", "fold"),
]


@pytest.fixture(scope="module")
def whole():
    """All images that are audited, with their labels as given."""
    return load_data(DataOptions(per_class=30, noise=NOISE, held_out=0.0)).train


@pytest.fixture(scope="module")
def by_folds(tmp_path_factory, good):
    out = tmp_path_factory.mktemp("audits") / "folds"
    return out, good("audit", "--out", out, *BY_FOLDS)


@pytest.fixture(scope="module")
def network(tmp_path_factory, good):
    """A run on other images: the last 40 of each class; its folder is given away."""
    root = tmp_path_factory.mktemp("network")
    digits = load_data(DataOptions(held_out=0.0)).train
    last = np.sort(np.concatenate([np.flatnonzero(digits.labels.numpy() == c)[-40:] for c in range(10)]))
    pixels = digits.pixels.array[torch.from_numpy(last)][:, 0].numpy()
    arrays = {f"{part}_images": pixels for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": digits.labels[last].numpy()[:, None] for part in ("train", "val", "test")}
    np.savez(root / "others.npz", **arrays)
    good(
        *("train", "--out", root / "run", "--data.name", "npz", "--data.root", root / "others.npz", *MACHINE),
        *("--engine.tensorboard", "false", "--engine.report", "false", *TRAINING, "--views.flip", "false"),
    )
    return root / "run"


def read(file):
    return json.loads(file.read_text())


def rows_of(out):
    with (out / "audit.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(out, name):
    return np.array([float(row[name]) for row in rows_of(out)])


def words(out, name):
    return [row[name] for row in rows_of(out)]


def kept(out):
    with np.load(out / "predictions.npz") as found:
        return {name: found[name] for name in found.files}


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


def asked(folder, samples, probe=False, without_head=False):
    """What a trained model says of plain images, without any of the audit's code; float64."""
    loaded = load_model(None, folder, 10, channels=1)
    module = copy.deepcopy(loaded.module)
    if without_head:
        *_, (path, _) = (pair for pair in module.named_modules() if isinstance(pair[1], nn.Linear))
        module.set_submodule(path, nn.Identity())
    if probe:
        weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        sizes = np.sort(np.concatenate([w.detach().abs().numpy().ravel() for w in weights]))
        limit = float(sizes[round(0.3 * sizes.size) - 1])
        with torch.no_grad():
            for w in weights:
                w[w.abs() <= limit] = 0
    images = samples.pixels.array.float() / 255
    with torch.no_grad():
        return module.eval().double()(loaded.input_format(images).double()).numpy()


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
    assert sum(pair["images"] for pair in results["pairs"]) <= counts["look"] + counts["relabel"]
    page = (out / "audit.html").read_text()
    assert results["audit"] in page and f"{counts['relabel']} labels " in page


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


# Classifiers on one network


@pytest.fixture(scope="module")
def by_heads(tmp_path_factory, good, network):
    root = tmp_path_factory.mktemp("heads")
    weights = shutil.copytree(network, root / "network")
    command = (
        *("audit", "--out", root / "out", "--heads_only", "--folds", FOLDS, *DATA, *MACHINE),
        *("--model.name", "resnet8x0.5", "--model.weights", weights),
    )
    return root / "out", command, good(*command)


def test_classifiers_are_those_of_scikit_learn(by_heads, network, whole):
    out, _, _ = by_heads
    found = kept(out)
    x, pruned = (asked(network, whole, probe, without_head=True) for probe in (False, True))
    with np.load(out / "features.npz") as features:
        assert features["teacher"].shape == (1, *x.shape) and features["probes"].shape == (1, 1, *x.shape)
        np.testing.assert_allclose(features["teacher"][0], x, atol=1e-4)
        np.testing.assert_allclose(features["probes"][0, 0], pruned, atol=1e-4)

    def classifier(rows, penalty):
        mean, std = x[rows].mean(0), x[rows].std(0)
        model = LogisticRegression(C=1 / (penalty * len(rows)), max_iter=2000, tol=1e-8)
        model.fit((x[rows] - mean) / std, whole.labels.numpy()[rows])
        return lambda z: model.decision_function((z - mean) / std)

    parts = [load_data(DataOptions(per_class=30, noise=NOISE, folds=FOLDS, fold=k)) for k in range(FOLDS)]
    penalty = chosen_penalty(parts[0].train, x[np.searchsorted(whole.ids, parts[0].train.ids)])
    for part in parts:
        learnt, rows = (np.searchsorted(whole.ids, s.ids) for s in (part.train, part.held_out))
        head = classifier(learnt, penalty)
        teacher, probe = head(x[rows]), head(pruned[rows])
        np.testing.assert_allclose(found["teacher"][rows], softmax(teacher, axis=1), atol=5e-3)
        np.testing.assert_allclose(found["probe"][rows], softmax(probe, axis=1), atol=5e-3)
        distance = np.linalg.norm(softmax(teacher / TAU, axis=1) - softmax(probe / TAU, axis=1), axis=1)
        np.testing.assert_allclose(found["distance"][rows], distance, atol=3e-2)


def chosen_penalty(train, x):
    """The best of a falling row of penalties on a tenth of each class, up to where it gets worse."""
    y = train.labels.numpy()
    random = np.random.default_rng(0)
    apart = np.zeros(y.size, bool)
    for c in range(10):
        members = np.flatnonzero(y == c)
        apart[random.choice(members, round(0.1 * members.size), replace=False)] = True
    losses = []
    for penalty in PENALTIES:
        mean, std = x[~apart].mean(0), x[~apart].std(0)
        model = LogisticRegression(C=1 / (penalty * (~apart).sum()), max_iter=2000, tol=1e-8)
        model.fit((x[~apart] - mean) / std, y[~apart])
        losses.append(log_loss(y[apart], model.predict_proba((x[apart] - mean) / std), labels=range(10)))
        if losses[-1] >= min(losses[:-1], default=np.inf):
            break
    return PENALTIES[int(np.argmin(losses))]


def test_features_are_computed_once(by_heads, good, tmp_path):
    out, command, _ = by_heads
    before, changed = (out / "audit.csv").read_bytes(), (out / "features.npz").stat().st_mtime_ns
    assert {p.name for p in out.iterdir()} == FILES | {"features.npz"}
    weights = command[-1]
    away = weights.rename(tmp_path / "away")
    try:
        good(*command)  # nobody asks the network any more
    finally:
        away.rename(weights)
    assert (out / "audit.csv").read_bytes() == before and (out / "features.npz").stat().st_mtime_ns == changed
    whole_file = (out / "features.npz").read_bytes()
    (out / "features.npz").write_bytes(whole_file[:-50])
    good(*command)
    assert (out / "audit.csv").read_bytes() == before and (out / "features.npz").read_bytes() == whole_file


def test_classifiers_find_wrong_labels(by_heads, whole):
    out, _, _ = by_heads
    assert roc_auc_score(~whole.wrong, column(out, "score")) > 0.85
    assert set(words(out, "seen_by_teacher")) == {"no"} and set(column(out, "fold")) == {0, 1, 2}


def test_a_network_that_knows_the_labels_is_told(teacher, good, tmp_path):
    """Its features repeat the labels that it learnt, whatever part the classifier leaves out."""
    out = tmp_path / "out"
    done = good(
        *("audit", "--out", out, "--heads_only", "--folds", 3, "--data.per_class", 30, *MACHINE),
        *("--model.name", "resnet8x0.5", "--model.weights", teacher),
    )
    assert "trained on 270 of these 300 images" in done.out
    data = load_data(DataOptions(per_class=30))
    seen = dict(zip(column(out, "id").astype(int), words(out, "seen_by_teacher"), strict=True))
    assert {seen[i] for i in data.train.ids} == {"yes"} and {seen[i] for i in data.held_out.ids} == {"no"}


def test_few_images_for_classifiers(network, good, tmp_path):
    """Too few to choose a penalty on."""
    out = tmp_path / "out"
    good(
        *("audit", "--out", out, "--heads_only", "--folds", 2, "--data.per_class", 4, *MACHINE),
        *("--model.name", "resnet8x0.5", "--model.weights", network),
    )
    assert len(rows_of(out)) == 40 and np.isfinite(column(out, "score")).all()


# A teacher that the user has


def by_teacher(out, teacher, *more):
    return ("audit", "--out", out, "--teacher.weights", teacher, *MACHINE, *more)


def test_what_a_teacher_of_ours_has_seen(teacher, good, tmp_path):
    out = tmp_path / "audit"
    done = good(*by_teacher(out, teacher, "--data.per_class", 30))
    data = load_data(DataOptions(per_class=30))
    seen = dict(zip(column(out, "id").astype(int), words(out, "seen_by_teacher"), strict=True))
    assert {seen[i] for i in data.train.ids} == {"yes"} and {seen[i] for i in data.held_out.ids} == {"no"}
    assert len(seen) == len(data.train) + len(data.held_out) == 300
    found = read(out / "audit.json")
    assert "trained on 270 of these 300 images" in found["warning"] and "worthless" in found["warning"]
    assert f"warning: {found['warning']}" in done.out and found["warning"] in html.unescape(
        (out / "audit.html").read_text()
    )
    assert {p.name for p in out.iterdir()} == FILES and "fold" not in rows_of(out)[0]
    samples = load_data(DataOptions(per_class=30, held_out=0.0)).train
    np.testing.assert_allclose(kept(out)["teacher"], softmax(asked(teacher, samples), axis=1), atol=1e-5)


def test_an_oracle_is_told(teacher, good, tmp_path, whole):
    out = tmp_path / "audit"
    good(*by_teacher(out, teacher, *DATA))
    found = read(out / "audit.json")
    assert "oracle" in found["warning"] and "clean labels" in found["warning"]
    assert roc_auc_score(~whole.wrong, column(out, "score")) > 0.95  # which says nothing, and is said


@pytest.mark.parametrize(("said", "seen"), [("train", "yes"), ("none", "no"), ("unknown", None)])
def test_what_is_said_of_a_teacher_counts(network, good, tmp_path, said, seen):
    out = tmp_path / "audit"
    done = good(*by_teacher(out, network, "--data.per_class", 30, "--teacher.seen", said))
    warned = read(out / "audit.json")["warning"]
    if seen is None:
        # It is no surer of these images than of others.
        assert set(words(out, "seen_by_teacher")) == {"unknown"} and warned.startswith("Nobody knows")
        assert "surer of these images than of test images with AUROC 0." in done.out
    else:
        assert set(words(out, "seen_by_teacher")) == {seen} and bool(warned) == (seen == "yes")


def test_a_stranger_that_memorised_is_found(good, tmp_path):
    few = ("--data.per_class", 12)
    good(
        *("train", "--out", tmp_path / "run", *few, *MACHINE, *TRAINING, "--epochs", 40, "--views.augment", "none"),
        *("--data.held_out", 0, "--engine.tensorboard", "false", "--engine.report", "false"),
    )
    shutil.copy(tmp_path / "run/student.safetensors", tmp_path / "bare.safetensors")  # nothing says where it is from
    out = tmp_path / "audit"
    good(*by_teacher(out, tmp_path / "bare.safetensors", "--teacher.name", "resnet8x0.5", *few))
    assert set(words(out, "seen_by_teacher")) == {"probably"}
    assert "probably trained on them" in read(out / "audit.json")["warning"]
    # The remark is the AUROC of max p, by hand.
    data = load_data(DataOptions(per_class=12, held_out=0.0))
    surer = [softmax(asked(tmp_path / "run", s), axis=1).max(1) for s in (data.train, data.test)]
    expected = roc_auc_score(np.r_[np.ones(120), np.zeros(len(data.test))], np.concatenate(surer))
    done = good(*by_teacher(out, tmp_path / "bare.safetensors", "--teacher.name", "resnet8x0.5", *few))
    assert f"AUROC {expected:.2f}" in done.out and expected > 0.6


def test_views_are_averaged_and_never_mixed(teacher, good, tmp_path):
    """What is said of half an image is no evidence about its label."""
    found = {}
    for name, more in {
        "plain": (),
        "views": ("--augmented", 2),
        "mixed": ("--augmented", 2, "--views.mixing", "mixup"),
    }.items():
        good(*by_teacher(tmp_path / name, teacher, "--data.per_class", 10, *more))
        found[name] = kept(tmp_path / name)["teacher"]
    np.testing.assert_array_equal(found["views"], found["mixed"])
    assert np.abs(found["views"] - found["plain"]).max() > 0.05
    np.testing.assert_allclose(found["views"].sum(1), 1, rtol=1e-5)


def model_of(classes, file):
    torch.manual_seed(0)
    save_file(build_model("resnet8x0.5", classes, channels=1).state_dict(), file)
    return file


def test_teachers_of_fewer_and_of_more_classes(dlkd, good, tmp_path):
    out, few = tmp_path / "out", ("--data.per_class", 6, "--teacher.name", "resnet8x0.5")
    for classes in (7, 12):
        file = model_of(classes, tmp_path / f"{classes}.safetensors")
        refused(dlkd(*by_teacher(out, file, *few)), "expected 10 classes", f"{classes}", "--teacher.classes")
        assert not out.exists()
    (tmp_path / "names.txt").write_text("\n".join(["left", *map(str, range(9, -1, -1)), "right"]) + "\n")
    good(*by_teacher(out, tmp_path / "12.safetensors", *few, "--teacher.classes", tmp_path / "names.txt"))
    samples = load_data(DataOptions(per_class=6, held_out=0.0)).train
    torch.manual_seed(0)
    module = build_model("resnet8x0.5", 12, channels=1).eval().double()
    with torch.no_grad():
        logits = module(samples.pixels.array.double() / 255).numpy()
    of_data = log_softmax(logits[:, 10:0:-1], axis=1)  # "0" stands tenth
    np.testing.assert_allclose(np.log(kept(out)["teacher"]), of_data, atol=1e-3)
    (tmp_path / "seven.txt").write_text("\n".join(map(str, range(7))) + "\n")
    done = dlkd(
        *by_teacher(tmp_path / "no", tmp_path / "7.safetensors", *few, "--teacher.classes", tmp_path / "seven.txt")
    )
    refused(done, "7")
    assert not (tmp_path / "no").exists()
