"""Label noise through the command: what a run keeps and says, how it is resumed, and what is refused in one line."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dlkd.data import DataOptions, load_data, matrix_noise, pair_noise, superclass_noise
from dlkd.data.noise import superclasses
from dlkd.data.noise.superclass import CIFAR100

TRUE = load_digits().target
HUMAN = np.where(np.random.default_rng(0).random(1797) < 0.3, np.random.default_rng(1).integers(0, 10, 1797), TRUE)
MATRIX = 0.8 * np.eye(10) + 0.15 * np.roll(np.eye(10), 1, axis=1) + 0.05 * np.roll(np.eye(10), 3, axis=1)
KD = ("--method", "kd", "--force")


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


def refused(done, *words):
    """One line, exit code 2, with all the words."""
    assert done.status == 2, done
    assert done.err.startswith("dlkd: error: ") and done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err, (word, done.err)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Labels of the 1,797 digits in the layout of CIFAR-10N, as a list of names, and a matrix."""
    root = tmp_path_factory.mktemp("noise")
    worse = np.where(np.random.default_rng(2).random(1797) < 0.5, HUMAN, (TRUE + 1) % 10)
    np.savez(root / "human.npz", clean_label=TRUE.astype(np.uint8), aggre_label=HUMAN, worse_label=worse)
    (root / "human.txt").write_text("\n".join(map(str, HUMAN)))
    np.savetxt(root / "matrix.csv", MATRIX, delimiter=",", fmt="%.4f")
    return root


@pytest.fixture(scope="module")
def human(files):
    """Options of the labels that somebody gave."""
    return ("--data.noise_kind", "human", "--data.noise_file", files / "human.npz", "--data.noise_set", "aggregate")


@pytest.fixture(scope="module")
def taught(tmp_path_factory, files, human, train, distill, good):
    """A teacher on human labels, and students: of it on the same labels, on others, and of a clean teacher."""
    out = tmp_path_factory.mktemp("taught")
    good(*train(out / "teacher", *human))
    good(*distill(out / "same", *KD, *human, "--teacher.weights", out / "teacher"))
    pair = ("--data.noise", 0.2, "--data.noise_kind", "pair")
    good(*distill(out / "other", *KD, *pair, "--teacher.weights", out / "teacher", "--engine.report", "true"))
    good(*distill(out / "oracle", *KD, *human, "--engine.report", "true"))
    return out


def test_labels_beside_the_run(taught):
    with np.load(taught / "teacher" / "labels.npz") as file:
        kept = dict(file)
    transition = np.zeros((10, 10), int)
    for part in ("train", "held_out"):
        ids = kept[f"{part}_ids"]
        assert np.array_equal(kept[f"{part}_labels"], HUMAN[ids]) and np.array_equal(kept[f"{part}_clean"], TRUE[ids])
        assert np.array_equal(kept[f"{part}_wrong"], HUMAN[ids] != TRUE[ids])
        np.add.at(transition, (TRUE[ids], HUMAN[ids]), 1)
    assert np.array_equal(kept["transition"], transition) and transition.sum() == 300
    wrong = int(transition.sum() - transition.trace())
    known = {"kind": "human", "asked": None, "realised": wrong / 300, "wrong": wrong, "images": 300}
    assert read(taught / "teacher")["noise"] == {**known, "file": "human.npz", "set": "aggre_label"}
    card = read(taught / "teacher", "run.json")["data"]
    assert (card["noise"], card["noise_kind"]) == (wrong / 300, "human")
    assert f"{wrong} of 300 training labels are wrong: {wrong / 3:.1f} %, human" in str(
        read(taught / "same")["remarks"]
    )


def test_what_the_teacher_was_trained_on_is_told(taught, teacher):
    found = {name: read(taught / name)["teacher"] for name in ("same", "other", "oracle")}
    assert {name: t["labels"] for name, t in found.items()} == {"same": "given", "other": "unknown", "oracle": "clean"}
    assert {name: t["oracle"] for name, t in found.items()} == {"same": False, "other": False, "oracle": True}
    assert all(t["seen"] == "kept" for t in found.values())
    assert "it is an oracle" in (taught / "oracle" / "report.html").read_text()
    assert "it would be an oracle" in (taught / "other" / "report.html").read_text()
    noise = read(taught / "other")["noise"]
    assert (noise["kind"], noise["asked"], noise["realised"], noise["wrong"]) == ("pair", 0.2, 0.2, 60)
    assert read(teacher)["noise"] is None and read(teacher, "run.json")["data"]["noise"] == 0


@pytest.fixture
def stopped(tmp_path, taught):
    """A run that was killed between its last checkpoint and its results."""
    run = tmp_path / "run"
    shutil.copytree(taught / "teacher", run)
    (run / "results.json").unlink()
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(taught / "teacher"), str(run)))
    return run


def test_resumed_with_its_labels(stopped, good):
    before = (stopped / "labels.npz").read_bytes()
    done = good("train", "--out", stopped, "--resume")
    assert (stopped / "labels.npz").read_bytes() == before and "labels.npz" not in done.out


@pytest.mark.parametrize("damage", ["lost", "cut", "of an older version"])
def test_lost_labels_are_written_anew(stopped, good, damage):
    file = stopped / "labels.npz"
    with np.load(file) as kept:
        before = dict(kept)
    if damage == "lost":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:500])
    else:
        np.savez(file, **{k: v for k, v in before.items() if k != "transition" and "clean" not in k})
    assert "labels.npz was lost" in good("train", "--out", stopped, "--resume").out
    with np.load(file) as kept:
        assert kept.files == list(before) and all(np.array_equal(kept[k], v) for k, v in before.items())


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_other_labels_are_not_resumed_with(stopped, dlkd, files, tmp_path, part):
    with np.load(stopped / "labels.npz") as kept:
        place = int(kept[f"{part}_ids"][0])
    with np.load(files / "human.npz") as file:
        changed = {k: v.copy() for k, v in file.items()}
    changed["aggre_label"][place] = (changed["aggre_label"][place] + 1) % 10
    np.savez(tmp_path / "human.npz", **changed)
    config = stopped / "config.yaml"
    config.write_text(config.read_text().replace(str(files / "human.npz"), str(tmp_path / "human.npz")))
    refused(dlkd("train", "--out", stopped, "--resume"), "the labels are not those", "start a new run")


def test_figures_of_a_run_with_a_label_file(taught, good, tmp_path):
    """Held-out labels are those of the file, which the options of the run name."""
    good("evaluate", "--weights", taught / "teacher", "--split", "held_out", "--device", "cpu", "--out", tmp_path / "e")
    found = json.loads((tmp_path / "e").read_text())
    assert found["accuracy"] == pytest.approx(read(taught / "teacher")["held_out"]["accuracy"])


def test_kinds_from_options(files):
    """The same labels as from the functions, in the parts that the split without noise has."""
    plain = load_data(DataOptions(per_class=50))
    ids = np.sort(np.concatenate([plain.train.ids, plain.held_out.ids]))
    for changes, wanted in (
        ({"noise": 0.3, "noise_kind": "pair"}, pair_noise(TRUE[ids], 10, 0.3, 0, ids)),
        ({"noise_kind": "matrix", "noise_file": files / "matrix.csv"}, matrix_noise(TRUE[ids], MATRIX, 0, ids)),
    ):
        data = load_data(DataOptions(per_class=50, **changes))
        for part, same in ((data.train, plain.train), (data.held_out, plain.held_out)):
            place = np.searchsorted(ids, part.ids)
            assert np.array_equal(part.ids, same.ids) and np.array_equal(part.labels, wanted.labels[place])
            assert np.array_equal(part.wrong, wanted.wrong[place]) and torch.equal(data.clean_of(part), same.labels)
        assert np.array_equal(data.noise.transition, wanted.transition)
        assert torch.equal(data.test.labels, plain.test.labels) and data.test.wrong is None
    assert data.noise.asked == pytest.approx(0.2) and data.noise.rate == pytest.approx(0.2)
    assert "matrix matrix.csv, 20 % asked for" in data.remarks[-1]


def test_superclasses_by_name_of_any_source(tmp_path):
    names = sorted(name for names in CIFAR100.values() for name in names.split())
    images, labels = np.zeros((500, 4, 4), np.uint8), np.arange(500) % 100
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, class_names=np.array(names))
    source = DataOptions("npz", tmp_path / "a.npz", noise=0.4, noise_kind="superclass", held_out=0.0)
    data = load_data(source)
    wanted = superclass_noise(labels[data.train.ids], superclasses(names), 0.4, 0, data.train.ids)
    assert np.array_equal(data.train.labels, wanted.labels) and data.noise.wrong == 200


OPTIONS = [
    (("--data.noise", 1.1, "--data.noise_kind", "instance"), ("--data.noise", "[0, 1]", "1.1")),
    (("--data.noise", -0.1, "--data.noise_kind", "pair"), ("[0, 1]", "-0.1")),
    (("--data.noise_kind", "pairs"), ("--data.noise_kind", "one of symmetric, pair, superclass", "pairs")),
    (("--data.noise_kind", "pair"), ("--data.noise above 0", "pair")),
    (("--data.noise_kind", "human"), ("--data.noise_file", "got none")),
    (("--data.noise_file", "matrix.csv"), ("--data.noise_kind matrix or human", "symmetric")),
    (
        ("--data.noise", 0.4, "--data.noise_kind", "matrix", "--data.noise_file", "matrix.csv"),
        ("no --data.noise", "0.4"),
    ),
    (("--data.noise", 0.4, "--data.noise_set", "worst"), ("--data.noise_kind human", "--data.noise_set")),
    (("--data.noise", 0.4, "--data.noise_kind", "superclass"), ("100 classes of CIFAR-100", "10 classes", "cifar100")),
]


@pytest.mark.parametrize(("more", "words"), OPTIONS)
def test_options_that_do_not_fit(tmp_path, dlkd, train, files, monkeypatch, more, words):
    monkeypatch.chdir(files)
    refused(dlkd(*train(tmp_path / "new", *more)), *words)
    assert not (tmp_path / "new").exists()


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".csv":
        np.savetxt(path, content, delimiter=",")
    else:
        path.write_text("\n".join(map(str, content)))
    return path


FILES = [
    ("human", "missing.txt", None, ("a file at --data.noise_file", "there is none")),
    ("human", "a.txt", HUMAN[:1796], ("each of the 1797 training images of digits", "found 1796")),
    ("human", "a.txt", np.roll(HUMAN, 5), ("the order looks shuffled", "clean_label")),
    ("human", "a.npz", {"noisy_label": HUMAN, "clean_label": np.roll(TRUE, 1)}, ("in order", "differ")),
    ("human", "a.txt", [*HUMAN[:1796], "ten"], ("names of the classes", "label 1797 is 'ten'", "nearest")),
    ("human", "a.txt", [*HUMAN[:1796], 10], ("between 0 and 9", "10")),
    ("human", "a.npz", {"a": HUMAN, "b": HUMAN}, ("--data.noise_set out of a, b",)),
    ("human", "a.npz", b"PK\x03\x04 cut off", ("a.npz is damaged",)),
    ("human", "a.npy", b"\x93NUMPY", ("a.npy is damaged",)),
    ("human", "a.pt", b"\x80\x04N.", ("a.pt is damaged",)),
    ("human", "a.doc", b"", (".npz, .pt, .npy, .csv, .json, .txt", "a.doc")),
    ("matrix", "a.csv", np.eye(9), ("10 × 10", "got 9 × 9")),
    ("matrix", "a.csv", 0.9 * np.eye(10), ("rows of the matrix to sum to one", "row 0 sums to 0.9")),
    ("matrix", "a.csv", 2 * np.eye(10) - np.roll(np.eye(10), 1, axis=1), ("in [0, 1]", "2 in row 0, column 0")),
    ("matrix", "a.csv", b"one,two\n", ("rows of numbers",)),
    ("matrix", "a.npz", {"m": np.eye(10)}, ("to end with .csv, .npy, .json",)),
]


@pytest.mark.parametrize(("kind", "name", "content", "words"), FILES)
def test_files_that_do_not_fit(tmp_path, dlkd, train, kind, name, content, words):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    done = dlkd(*train(tmp_path / "new", "--data.noise_kind", kind, "--data.noise_file", path))
    refused(done, *words)
    assert not (tmp_path / "new").exists()


def test_a_label_file_inside_the_run_that_is_replaced(stopped, dlkd, train, files):
    shutil.copy(files / "human.txt", stopped / "human.txt")
    inside = ("--data.noise_kind", "human", "--data.noise_file", stopped / "human.txt", "--overwrite")
    refused(dlkd(*train(stopped, *inside)), "--data.noise_file outside the folder of the run")
    assert (stopped / "human.txt").exists()


def test_a_class_that_the_split_leaves_empty(tmp_path, dlkd, train):
    few = tmp_path / "few"
    for k, name in enumerate(["zero"] * 9 + ["one"]):
        (few / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(few / name / f"{k}.png")
    data = ("--data.name", "folder", "--data.root", few, "--data.workers", 0, "--data.held_out", 0.6)
    done = dlkd(*train(tmp_path / "new", *data, "--data.test_share", 0.3))
    refused(done, "a training image of every class after splitting", "'one' has none left of 1", "--data.held_out")
    assert not (tmp_path / "new").exists()
