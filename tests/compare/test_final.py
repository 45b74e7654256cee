"""The test images: unread until ``--final``, noted before they are read, scored as ``dlkd evaluate`` scores them."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from dlkd.data import DataOptions, FilePixels, load_data


def lines(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def cells_of(out):
    return sorted(p.parent for p in out.glob("cells/*/*/seed*/results.json"))


@pytest.fixture(scope="module")
def scored(tmp_path_factory, left_alone, study, good):
    """The comparison with its test images read, its ledger, and what was said."""
    folder = tmp_path_factory.mktemp("final")
    out = folder / "scored"
    shutil.copytree(left_alone[0], out)
    return out, folder / "ledgers" / "ledger.jsonl", good(*study(out, *final(folder)))


def final(folder):
    return ("--final", "--ledger", folder / "ledgers" / "ledger.jsonl")


def named_test(value):
    """Every key that is of test images, at any depth."""
    if isinstance(value, list):
        return [key for v in value for key in named_test(v)]
    if not isinstance(value, dict):
        return []
    return [k for k in value if k.startswith("test") and k != "test_share"] + named_test(list(value.values()))


def test_no_figure_of_test_images_without_final(left_alone, read):
    out, done = left_alone
    assert len(cells_of(out)) == 12 and "The test images have not been read." in done.out
    for cell in cells_of(out):
        assert named_test(read(cell / "results.json")) == [] and named_test(read(cell / "student.json")) == []
        with np.load(cell / "predictions.npz") as kept:
            assert {name.split("_")[0] for name in kept.files} == {"held"}
        assert not (cell / "final.json").exists() and not (cell / "final.npz").exists()
    assert named_test(read(out / "results.json")) == []


def test_one_line_of_the_ledger_for_one_reading(scored):
    _, ledger, done = scored
    assert "12 students were scored on the test images" in done.out
    (entry,) = lines(ledger)
    date = datetime.fromisoformat(entry.pop("date"))
    assert timedelta(0) <= datetime.now(UTC) - date < timedelta(minutes=30)
    rows = [f"{place}/{method}" for place in ("clean", "noisy") for method in ("ce", "dlkd", "kd-2")]
    noise = {"data": ["digits"], "noise": ["none", "symmetric 0.4"], "teachers": ["teacher"]}
    assert entry == {"students": 12, "rows": rows, "seeds": [0, 3], **noise}


@pytest.mark.parametrize("row", ["clean/ce", "noisy/dlkd"])
def test_figures_are_those_of_evaluate(scored, row, good, read, tmp_path):
    cell = scored[0] / "cells" / row / "seed3"
    good("evaluate", "--weights", cell, "--split", "test", "--device", "cpu", "--out", tmp_path / "figures")
    figures, evaluated = read(cell / "final.json"), read(tmp_path / "figures")
    assert {"accuracy", "nll", "ece", "aurc"} <= figures.keys()
    assert figures == {name: evaluated[name] for name in figures}


def test_answers_image_by_image(scored, read):
    out, _, _ = scored
    for cell in cells_of(out):
        with np.load(cell / "final.npz") as kept:
            right = kept["test_predicted"] == kept["test_labels"]
            assert len(set(kept["test_ids"])) == len(right) and "test_clean" not in kept.files
        assert 100 * right.mean() == pytest.approx(read(cell / "final.json")["accuracy"])


def test_tables_have_the_test_images_once_they_are_read(scored, read):
    out, _, done = scored
    found = read(out / "results.json")
    for row in found["rows"]:
        for seed, figures in row["seeds"].items():
            assert figures["test"] == read(out / "cells" / row["row"] / f"seed{seed}" / "final.json")["accuracy"]
    of_test = [c for c in found["compared"] if c["figure"] == "test"]
    assert {(c["condition"], c["method"], c["against"]) for c in of_test} == {
        *((place, method, other) for place in ("clean", "noisy") for method, other in (("ce", "kd-2"), ("dlkd", "ce"))),
        *((place, "dlkd", "kd-2") for place in ("clean", "noisy")),
    }
    answers = {}
    for cell in cells_of(out):
        with np.load(cell / "final.npz") as kept:
            answers[cell] = kept["test_predicted"] == kept["test_labels"]
    for c in of_test:
        places = [out / "cells" / c["condition"] / m for m in (c["method"], c["against"])]
        ours, theirs = (np.stack([answers[place / f"seed{seed}"] for seed in (0, 3)]) for place in places)
        assert c["images"]["mean"] == pytest.approx(100 * (ours.mean() - theirs.mean())) == pytest.approx(c["mean"])
    assert "have not been read" not in done.out
    assert re.search(r"\btest\b", (out / "table.md").read_text())


def test_a_second_reading_reads_only_what_is_new(scored, study, small, good, tmp_path):
    out, ledger = tmp_path / "out", tmp_path / "ledgers" / "ledger.jsonl"
    shutil.copytree(scored[0], out)
    ledger.parent.mkdir()
    shutil.copy(scored[1], ledger)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("cells/**/final.*")}
    assert len(before) == 24
    assert "0 students were scored" in good(*study(out, *final(tmp_path))).out
    assert len(lines(ledger)) == 1
    noisy = ("--conditions", "{noisy: {data.noise: 0.4}}", "--seeds", "[3]")
    some = small(out, *final(tmp_path), *noisy, methods="{ce: , ce2: {method: ce}}")
    assert "1 students were scored" in good(*some).out
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    first, second = lines(ledger)
    assert first == lines(scored[1])[0]
    assert (second["students"], second["rows"], second["seeds"]) == (1, ["noisy/ce2"], [3])


def test_cells_that_are_not_finished_keep_the_test_images_shut(copied, study, dlkd, refused, tmp_path, read):
    """Else some would be read now, and the others once the first figures were known."""
    (copied / "cells" / "noisy" / "dlkd" / "seed3" / "results.json").unlink()
    refused(dlkd(*study(copied, "--collect", *final(tmp_path))), "all cells to be finished for --final, but 1 are not")
    assert not list(copied.glob("cells/**/final.*")) and not (tmp_path / "ledgers").exists()
    assert named_test(read(copied / "results.json")) == []  # the tables are there all the same


def test_without_a_ledger_nothing_is_read(copied, study, dlkd, refused):
    refused(dlkd(*study(copied, "--final", "--collect")), "--ledger FILE with --final")
    assert not list(copied.glob("cells/**/final.*"))


def test_with_a_ledger_that_cannot_be_written_nothing_is_read(copied, study, dlkd, refused, tmp_path):
    refused(
        dlkd(*study(copied, "--final", "--collect", "--ledger", tmp_path)), "expected --ledger to be a file", tmp_path
    )
    assert not list(copied.glob("cells/**/final.*"))


def test_a_ledger_that_cannot_be_locked_is_told_in_one_line(copied, study, dlkd, refused, tmp_path, monkeypatch):
    def held(file, *, wait):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr("dlkd.compare.final.held", held)
    refused(dlkd(*study(copied, "--collect", *final(tmp_path))), "could not write the ledger", "no locks here")
    assert not list(copied.glob("cells/**/final.*"))


@pytest.mark.parametrize("name", ["final.json", "final.npz"])
def test_a_damaged_reading_is_told_in_one_line(scored, study, dlkd, refused, name):
    cell = scored[0] / "cells" / "clean" / "kd-2" / "seed0"
    whole = (cell / name).read_bytes()
    (cell / name).write_bytes(whole[: len(whole) // 2])
    try:
        refused(dlkd(*study(scored[0], "--collect")), cell)
    finally:
        (cell / name).write_bytes(whole)


def test_a_damaged_student_is_told_in_one_line(copied, study, dlkd, refused, tmp_path):
    student = copied / "cells" / "clean" / "ce" / "seed0" / "student.safetensors"
    student.write_bytes(student.read_bytes()[:1000])
    refused(dlkd(*study(copied, "--collect", *final(tmp_path))), student)
    assert len(lines(tmp_path / "ledgers" / "ledger.jsonl")) == 1


@pytest.fixture
def sealed(tmp_path, photos):
    """Photographs whose test images are damaged, of the sizes of training images: a look for doubles opens them."""
    root = tmp_path / "sealed"
    for name in ("zero", "one"):
        shutil.copytree(photos / name, root / "train" / name)
        (root / "test" / name).mkdir(parents=True)
        for k in range(3):
            size = (photos / name / f"{k:02d}.png").stat().st_size
            (root / "test" / name / f"{k}.png").write_bytes(b"no image".ljust(size))
    return root


@pytest.fixture
def opened(monkeypatch):
    """Every file that was opened as an image; they go to who asked all the same."""
    found, whole = [], FilePixels.open
    monkeypatch.setattr(FilePixels, "open", lambda self, k: found.append(self.paths[k]) or whole(self, k))
    return found


def parts_of(opened):
    """Of which parts of the data set they are."""
    return {path.parts[-3] for path in opened}


def test_test_images_are_not_opened_before(sealed, opened, tmp_path, dlkd, good, refused, photos):
    """And the ledger has its line although the reading fails."""
    data = ("--run.data.name", "folder", "--run.data.root", sealed, "--run.data.workers", 0)
    small = ("--run.student.name", "resnet8x0.5", "--run.epochs", 1, "--run.data.image_size", 16)
    small += ("--run.optim.batch_size", 12)
    engine = ("--run.device", "cpu", "--run.engine.threads", 1)
    out, ledger = tmp_path / "out", tmp_path / "ledger"
    command = ("compare", "--out", out, "--methods", "[ce]", "--seeds", 1, *data, *small, *engine)
    good(*command)
    assert parts_of(opened) == {"train"}
    done = dlkd(*command, "--final", "--ledger", ledger)
    refused(done, ".png")
    assert parts_of(opened) == {"train", "test"}
    assert [line["students"] for line in lines(ledger)] == [1] and not (out / "cells/ce/seed0/final.json").exists()
    # Once they are there, they are read, which is one more reading.
    for name in ("zero", "one"):
        for k in range(3):
            shutil.copy(photos / name / f"{k:02d}.png", sealed / "test" / name / f"{k}.png")
    done = good(*command, "--final", "--ledger", ledger)
    assert len(lines(ledger)) == 2 and (out / "cells/ce/seed0/final.json").exists()
    assert "note: 6 of 6 test images are training images too" in done.out


def test_a_run_scored_on_held_out_images(sealed, opened, tmp_path, good, dlkd, read):
    """``--score_on held_out`` of a run by itself: no figure of test images, and none of them is opened."""
    run = ("--data.name", "folder", "--data.root", sealed, "--data.workers", 0, "--data.image_size", 16)
    run += ("--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu", "--engine.threads", 1)
    run += ("--optim.batch_size", 12)
    good("train", "--out", tmp_path / "run", *run, "--score_on", "held_out")
    assert parts_of(opened) == {"train"}
    results = read(tmp_path / "run" / "results.json")
    assert results["held_out"]["accuracy"] >= 0 and named_test(results) == []
    scored_on_test = dlkd("train", "--out", tmp_path / "other", *run)
    assert scored_on_test.status == 2 and ".png is damaged" in scored_on_test.err.splitlines()[-1]


@pytest.mark.parametrize("sealed", [True, False])
def test_who_opens_the_test_images_looks_whether_they_were_learnt_from(sealed, opened, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "twice" / "train")
    shutil.copytree(photos, tmp_path / "twice" / "test")
    data = load_data(DataOptions("folder", tmp_path / "twice"), sealed=sealed)
    told = [remark for remark in data.remarks if "40 of 40 test images are training images too" in remark]
    assert (len(told), "test" in parts_of(opened)) == ((0, False) if sealed else (1, True))


def test_no_held_out_images_to_score_are_told_before_anything_is_trained(dlkd, train, tmp_path, refused):
    refused(dlkd(*train(tmp_path / "run", "--score_on", "held_out", "--data.held_out", 0)), "no held-out images")
    assert not (tmp_path / "run").exists()
