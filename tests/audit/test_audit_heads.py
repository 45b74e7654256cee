"""``dlkd audit --heads_only``: classifiers on one network, what is kept of it, and what it has seen."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from audits import DATA, FILES, FOLDS, MACHINE, NOISE, TAU, asked, column, kept, model_of, read, rows_of, words
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from dlkd.audit.heads import PENALTIES
from dlkd.audit.judged import everything
from dlkd.audit.options import AuditOptions
from dlkd.audit.seen import seen_by_network
from dlkd.data import DataOptions, load_data
from dlkd.train.options import ModelOptions
from dlkd.train.teacher_options import TeacherOptions


@pytest.fixture(scope="module")
def by_heads(tmp_path_factory, good, network):
    root = tmp_path_factory.mktemp("heads")
    weights = shutil.copytree(network, root / "network")
    command = (
        *("audit", "--out", root / "out", "--heads_only", "--folds", FOLDS, *DATA, *MACHINE),
        # Its images are others, which the name of their file cannot tell.
        *("--model.name", "resnet8x0.5", "--teacher.seen", "none", "--model.weights", weights),
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


def test_a_network_that_was_trained_anew_in_its_place_is_asked_again(network, good, tmp_path):
    run = shutil.copytree(network, tmp_path / "run")
    few = ("--heads_only", "--folds", 2, "--data.per_class", 10, *MACHINE, "--model.name", "resnet8x0.5")

    def audit(name, weights=run):
        good("audit", "--out", tmp_path / name, *few, "--model.weights", weights)
        return [(tmp_path / name / file).read_bytes() for file in ("features.npz", "predictions.npz")]

    before = audit("out")
    tensors = load_file(run / "student.safetensors")
    save_file({name: t * 1.5 if t.ndim == 4 else t for name, t in tensors.items()}, run / "student.safetensors")
    after = audit("out")
    assert after == audit("anew") and after[0] != before[0] and after[1] != before[1]
    # A file instead of a folder, which goes away.
    file = shutil.copy(network / "student.safetensors", tmp_path / "bare.safetensors")
    before = audit("bare", file)
    save_file({name: t * 1.5 if t.ndim == 4 else t for name, t in tensors.items()}, file)
    after = audit("bare", file)
    assert after[0] != before[0]
    file.unlink()
    assert audit("bare", file) == after


# Has the network seen the images?


def seen_of(weights, data, said="auto"):
    """What is said of each image, and the remarks."""
    model = ModelOptions("resnet8x0.5", weights, pretrained=weights is None)
    options = AuditOptions(
        folds=3, heads_only=True, device="cpu", data=data, model=model, teacher=TeacherOptions(seen=said)
    )
    options.check()
    return seen_by_network(options, everything(data))


def told(run, to, **changes):
    """A copy of a run whose description says something else."""
    copy = shutil.copytree(run, to)
    about = json.loads((copy / "student.json").read_text())
    for key, value in changes.items():
        (about["card"] if key == "trained_on" else about)[key] = value
    (copy / "student.json").write_text(json.dumps(about))
    return copy


def surer(run, data):
    """AUROC of max p, by hand."""
    whole = everything(data)
    some = (whole.train, whole.test)
    sure = [softmax(asked(run, samples), axis=1).max(axis=1) for samples in some]
    return roc_auc_score(np.repeat([1, 0], [len(samples) for samples in some]), np.concatenate(sure))


def test_a_network_that_may_know_the_labels_is_told(teacher, good, tmp_path):
    """Where nothing tells what it was trained on, but its classifier is for these classes."""
    bare, few = tmp_path / "bare.safetensors", DataOptions(per_class=30)
    shutil.copy(teacher / "student.safetensors", bare)
    expected, words_of = surer(teacher, few), {True: ("probably", "much surer"), False: ("unknown", "Nobody knows")}
    seen, warning = words_of[expected > 0.6]
    out = tmp_path / "out"
    done = good(
        *("audit", "--out", out, "--heads_only", "--folds", 2, "--data.per_class", 30, *MACHINE),
        *("--model.name", "resnet8x0.5", "--model.weights", bare),
    )
    assert set(words(out, "seen_by_teacher")) == {seen}
    assert f"the network is surer of these images than of test images with AUROC {expected:.2f}" in done.out
    warned = read(out / "audit.json")["warning"]
    assert warning in warned and "network" in warned and f"warning: {warned}" in done.out
    assert "leave out --heads_only" in warned and "--folds" not in warned


def test_a_run_on_the_same_data_or_on_files_may_have_seen_the_images(teacher, network, tmp_path):
    few = DataOptions(per_class=30)
    other = replace(few, seed=few.seed + 1)  # other images of the same are held out
    assert {*seen_of(teacher, few)[0]} == {"yes", "no"}
    guess = "probably" if surer(teacher, other) > 0.6 else "unknown"
    for weights in (
        teacher,
        told(teacher, tmp_path / "nothing", trained_on=None),
        told(teacher, tmp_path / "files", trained_on={"data": "folder", "images": "0" * 64}),
    ):
        seen, remarks = seen_of(weights, other)
        assert {*seen} == {guess} and len(remarks) == 1
    assert {*seen_of(network, few)[0]} == {"unknown"} and surer(network, few) < 0.6  # it has not


def test_a_network_of_other_labels_has_not_seen_these(teacher, tmp_path):
    few = DataOptions(per_class=30, seed=1)
    letters = list("abcdefghij")
    for weights in (
        None,
        model_of(7, tmp_path / "seven.safetensors"),
        told(teacher, tmp_path / "cifar", trained_on={"data": "cifar10", "images": "0" * 64}),
        told(teacher, tmp_path / "letters", class_names=letters),
    ):
        seen, remarks = seen_of(weights, few)
        assert {*seen} == {"no"} and remarks == ()


def test_what_is_said_of_a_network_counts(teacher):
    few = DataOptions(per_class=30)
    held_out = np.isin(everything(few).train.ids, load_data(few).held_out.ids)
    for said, (learnt, others) in {"none": ("no", "no"), "train": ("yes", "yes"), "kept": ("yes", "no")}.items():
        seen, remarks = seen_of(teacher, few, said)
        assert {*seen[~held_out]} == {learnt} and {*seen[held_out]} == {others} and remarks == ()
    assert {*seen_of(teacher, few, "unknown")[0]} == {"probably" if surer(teacher, few) > 0.6 else "unknown"}
    assert {*seen_of(None, few, "unknown")[0]} == {"unknown"}


def test_few_images_for_classifiers(network, good, tmp_path):
    """Too few to choose a penalty on."""
    out = tmp_path / "out"
    good(
        *("audit", "--out", out, "--heads_only", "--folds", 2, "--data.per_class", 4, *MACHINE),
        *("--model.name", "resnet8x0.5", "--model.weights", network),
    )
    assert len(rows_of(out)) == 40 and np.isfinite(column(out, "score")).all()
