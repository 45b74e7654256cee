"""``dlkd predict`` on real files: what it says against the student's own logits, and what it survives."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkd.data import load_data
from dlkd.errors import UserError
from dlkd.export import open_predictor
from dlkd.export.predict import answers, pictures
from dlkd.export.predictor import Answer
from dlkd.export.rows import rows_to
from dlkd.jobs.of_run import data_of_run


def rows(file):
    with file.open(newline="", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def mixed(digits, tmp_path):
    """Ten good pictures among files of every bad kind, under awkward names."""
    root = tmp_path / "mixed"
    root.mkdir()
    good = sorted(digits.rglob("*.png"))[:10]
    for k, path in enumerate(good):
        (root / f"{k}.png").write_bytes(path.read_bytes())
    whole = good[0].read_bytes()
    (root / "empty.png").write_bytes(b"")
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "page.png").write_text("<html><script>alert(1)</script></html>")
    (root / "program.jpg").write_text("%!PS\n(hello) show")
    (root / "notes.txt").write_text("no picture by name")
    (root / ".hidden.png").write_bytes(whole)
    return root


def test_what_the_student_itself_says(run, digits, truth, tmp_path, good):
    done = good("predict", run, "--images", digits, "--out", tmp_path / "p.csv")
    found = rows(tmp_path / "p.csv")
    assert "60 pictures, 0 of them could not be read" in done.out and len(found) == 60
    share = torch.softmax(truth.logits.double(), dim=1)
    where = {f"{number:04d}": k for k, number in enumerate(truth.ids)}
    for row in found:
        mine = share[where[os.path.basename(row["path"])[:-4]]]
        best = mine.argsort(descending=True)[:5].tolist()
        labels = [row["label"], *(row[f"label_{k}"] for k in range(2, 6))]
        assert labels == [str(k) for k in best]
        assert float(row["confidence"]) == pytest.approx(float(mine[best[0]]), abs=1e-5) and not row["error"]
    kept = np.load(run / "predictions.npz")
    predicted = dict(zip(kept["test_ids"].tolist(), kept["test_predicted"].tolist(), strict=True))
    assert all(str(predicted[int(os.path.basename(row["path"])[:-4])]) == row["label"] for row in found)


def test_what_a_student_of_files_said_at_the_end_of_its_run(of_files, tmp_path, good):
    test, kept = load_data(data_of_run(of_files)).test, np.load(of_files / "predictions.npz")
    good("predict", of_files, "--images", *test.pixels.paths, "--out", tmp_path / "p.csv")
    found = rows(tmp_path / "p.csv")
    assert [row["path"] for row in found] == [str(path) for path in test.pixels.paths]
    assert [row["label"] for row in found] == [test.class_names[k] for k in kept["test_predicted"]]
    assert [float(row["confidence"]) for row in found] == pytest.approx(kept["test_confidence"].tolist(), abs=1e-5)


@pytest.mark.parametrize("which", ["onnx", "onnx folder", "hub", "student.safetensors"])
def test_every_kind_of_model_says_the_same(run, onnx, hub, digits, tmp_path, good, which):
    model = {"onnx": onnx[0] / "model.onnx", "onnx folder": onnx[0], "hub": hub}.get(which, run / "student.safetensors")
    for where, name in ((run, "a"), (model, "b")):
        good("predict", where, "--images", digits, "--out", tmp_path / f"{name}.csv", "--top", 2, "--batch_size", 7)
    one, other = rows(tmp_path / "a.csv"), rows(tmp_path / "b.csv")
    for a, b in zip(one, other, strict=True):
        assert (a["path"], a["label"], a["label_2"]) == (b["path"], b["label"], b["label_2"])
        assert float(a["confidence"]) == pytest.approx(float(b["confidence"]), abs=1e-4)
    assert list(one[0]) == ["path", "label", "confidence", "label_2", "confidence_2", "error"]


def test_a_model_that_normalises_itself(of_files, photos, tmp_path, good):
    good("export", of_files, "--out", tmp_path / "out", "--preprocess", "in-graph")
    for where, name in ((of_files, "a"), (tmp_path / "out" / "model.onnx", "b")):
        good("predict", where, "--images", photos, "--out", tmp_path / f"{name}.csv")
    one, other = ([float(r["confidence"]) for r in rows(tmp_path / f"{n}.csv")] for n in "ab")
    assert len(one) == 40 and other == pytest.approx(one, abs=1e-4)


def test_a_bad_file_has_its_row_and_stops_nothing(run, mixed, tmp_path, good):
    done = good("predict", run, "--images", mixed, mixed / "notes.txt", "--out", tmp_path / "p.csv", "--batch_size", 3)
    found = {os.path.basename(r["path"]): r for r in rows(tmp_path / "p.csv")}
    bad = {"empty.png", "cut.png", "page.png", "program.jpg", "notes.txt"}
    assert "15 pictures, 5 of them could not be read" in done.out
    assert {name for name, row in found.items() if row["error"]} == bad and len(found) == 15
    assert all(not found[name]["label"] and name in found[name]["error"] for name in bad)
    assert "no bytes" in found["empty.png"]["error"] and "no known format" in found["page.png"]["error"]


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_decompression_bomb_is_refused(run, tmp_path, good, monkeypatch):
    Image.new("L", (400, 300)).save(tmp_path / "bomb.png")
    Image.new("L", (1, 60_000)).save(tmp_path / "thread.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    good("predict", run, "--images", tmp_path, "--out", tmp_path / "p.jsonl")
    bomb, thread = (json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines())
    assert "above the limit" in bomb["error"] and bomb["label"] is None
    assert thread["error"] is None


def test_long_and_thin_pictures_are_not_blown_up(of_files, tmp_path, good):
    Image.new("L", (1, 80_000)).save(tmp_path / "thread.png")
    good("predict", of_files, "--images", tmp_path, "--out", tmp_path / "p.jsonl")
    assert "too long and thin" in json.loads((tmp_path / "p.jsonl").read_text())["error"]


def test_odd_names_survive(run, digits, tmp_path, good):
    whole, root = next(digits.rglob("*.png")).read_bytes(), tmp_path / "odd"
    root.mkdir()
    names = [b"[bold]x[~bold].png", b"<script>.png", b"a\nb.png", b"\xff\xfe.png", b"{a: 1}.png", b"*&.png", b',".png']
    names += ["ü.png".encode(), b"a\rb.png", b"a\r\nb.png"]
    for name in names:
        (root / os.fsdecode(name)).write_bytes(whole)
    explicit = [root / os.fsdecode(name) for name in names]
    good("predict", run, "--images", root, "--out", tmp_path / "a.csv")
    good("predict", run, "--images", *explicit, "--out", tmp_path / "b.jsonl")
    of_folder = [os.fsencode(os.path.basename(r["path"])) for r in rows(tmp_path / "a.csv")]
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert of_folder == sorted(names)
    assert [os.fsencode(os.path.basename(line["path"])) for line in lines] == names
    assert all(line["error"] is None for line in lines)


def test_a_model_under_an_odd_name(onnx, run, digits, tmp_path, good):
    for where, name in ((run, "[1, 2]"), (onnx[0], "{a: b}")):
        model = shutil.copytree(where, tmp_path / name)
        good("predict", model, "--images", digits, "--out", tmp_path / "p.csv", "--overwrite")
        assert len(rows(tmp_path / "p.csv")) == 60


def test_lines_on_standard_output(run, mixed):
    """In a process of its own: the rows alone are on standard output, and the last word is not among them."""
    command = [sys.executable, "-m", "dlkd", "predict", run, "--images", mixed, "--top", "3", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == 14 and done.stderr == "14 pictures, 4 of them could not be read\n"
    assert [os.path.basename(line["path"]) for line in lines[:4]] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(len(line["top"]) == 3 and line["top"][0]["label"] == line["label"] for line in lines[:4])


def test_folders_at_any_depth_in_one_order(tmp_path, digits):
    whole, here = next(digits.rglob("*.png")).read_bytes(), tmp_path / "root"
    for _ in range(300):
        here = here / "d"
    here.mkdir(parents=True)
    (here / "deep.png").write_bytes(whole)
    root = tmp_path / "root"
    for name in ("b.png", "a.PNG", "e.jpeg"):
        (root / name).write_bytes(whole)
    (root / "loop").symlink_to(root)
    (root / "linked.png").symlink_to(root / "b.png")
    (root / ".git").mkdir()
    (root / ".git" / "x.png").write_bytes(whole)
    found = [os.path.relpath(path, root) for path in pictures([root])]
    assert found == ["a.PNG", "b.png", "/".join(["d"] * 300 + ["deep.png"]), "e.jpeg", "linked.png"]


def test_only_a_batch_is_in_memory(run, digits):
    """An endless row of pictures gives answers: nothing waits for its end."""
    taken = itertools.count()
    path = next(digits.rglob("*.png"))
    endless = (path for _ in taken)
    said = list(itertools.islice(answers(open_predictor(run), endless, 1, 8), 20))
    assert len(said) == 20 and next(taken) <= 25 and {each.top for each in said} == {said[0].top}


def test_one_process_writes_and_takes_nothing_from_another(tmp_path):
    out, said = tmp_path / "p.csv", Answer(tmp_path / "a.png", (("x", 1.0),))
    killed, other = (tmp_path / f".{name}.abcdefgh.tmp" for name in ("p.csv", "p.csv.more.csv"))
    killed.touch()
    other.touch()
    with rows_to(out, 1) as write:
        write(said)
        busy = set(tmp_path.iterdir())
        with pytest.raises(UserError, match="another process is writing"), rows_to(out, 1):
            pass
        assert set(tmp_path.iterdir()) == busy
    assert set(tmp_path.iterdir()) == {out, other} and len(rows(out)) == 1


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
def test_what_is_not_of_the_file_is_not_told_as_of_it(tmp_path, name):
    with pytest.raises(PermissionError, match="a folder"), rows_to(tmp_path / name, 1):
        raise PermissionError(13, "a folder")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_lets_nobody_look_at_its_files(run, digits, tmp_path, good, monkeypatch):
    """Its names can be read, and nothing of what they are."""
    root, whole = tmp_path / "root", next(digits.rglob("*.png")).read_bytes()
    for name in ("closed/a.png", "open/b.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(whole)
    is_dir = Path.is_dir

    def denied(path):
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", denied)
    good("predict", run, "--images", root, "--out", tmp_path / "p.csv")
    closed, shown = rows(tmp_path / "p.csv")
    assert closed["error"].endswith("a.png could not be looked at (Permission denied)") and not shown["error"]


def test_a_pipe_is_not_waited_for(run, tmp_path, good):
    os.mkfifo(tmp_path / "pipe.png")
    good("predict", run, "--images", tmp_path, "--out", tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text())["error"]


def test_in_python(onnx, digits):
    path = next(digits.rglob("*.png"))
    (answer, missing) = open_predictor(onnx[0])([path, path.with_name("gone.png")], top=2)
    assert len(answer.top) == 2 and answer.error is None and "the file is gone" in missing.error
