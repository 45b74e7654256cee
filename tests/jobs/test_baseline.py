"""The student alone beside the distilled one: the same run but for the teacher, whatever happens on the way."""

import json
import math
import shutil
import signal
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml

from dlkd.jobs.baseline import baseline_folder, verdict

TINY = ("--method", "kd", "--optim.batch_size", 50)


def results(folder):
    return json.loads((folder / "results.json").read_text())


def config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory, good, distill):
    """A run with its baseline, noise in its labels, figures on the held-out images: the folder, and what was said."""
    out = tmp_path_factory.mktemp("baseline") / "student"
    more = ("--data.noise", 0.2, "--score_on", "held_out", "--data.held_out", 0.4, "--epochs", 3)
    return out, good(*distill(out, *TINY, *more, "--with-baseline", "--engine.report", "true"))


def test_it_is_the_run_of_cross_entropy_alone(both, good, distill, same, tmp_path):
    """And the student is that of a run without a baseline, to the last bit."""
    out, alone = both[0], both[0].with_name("student-baseline")
    more = ("--data.noise", 0.2, "--score_on", "held_out", "--data.held_out", 0.4, "--epochs", 3)
    good(*distill(tmp_path / "ce", *TINY, *more, "--method", "ce"))
    good(*distill(tmp_path / "kd", *TINY, *more))
    assert same(alone, tmp_path / "ce") and same(out, tmp_path / "kd")
    assert not same(out, alone)
    assert "baseline" not in results(tmp_path / "kd") and config(alone)["method"] == "ce"


def test_the_figures_are_those_of_both_runs(both):
    out, alone = both[0], both[0].with_name("student-baseline")
    found = results(out)["baseline"]
    assert found["folder"] == "student-baseline"
    assert found["accuracy"] == pytest.approx(results(alone)["held_out"]["accuracy"])
    difference = results(out)["held_out"]["accuracy"] - results(alone)["held_out"]["accuracy"]
    assert found["difference"] == pytest.approx(difference)
    with np.load(out / "predictions.npz") as a, np.load(alone / "predictions.npz") as b:
        assert a["held_out_ids"].tolist() == b["held_out_ids"].tolist()
        one, other = (x["held_out_predicted"] == x["held_out_labels"] for x in (a, b))
    n, better, worse = len(one), int((one & ~other).sum()), int((other & ~one).sum())
    # Of n differences in {−1, 0, 1}: the squares sum to b + w, the mean is (b − w)/n.
    variance = (better + worse - (better - worse) ** 2 / n) / (n - 1)
    assert (found["images"], better - worse) == (n, round(difference * n / 100))
    assert found["standard_error"] == pytest.approx(100 * math.sqrt(variance / n))
    assert found["verdict"] == verdict(found, "held-out")


def test_the_verdict_is_on_the_screen_and_in_the_report(both):
    said = results(both[0])["baseline"]["verdict"]
    assert said in " ".join(both[1].out.split())
    assert said in unescape((both[0] / "report.html").read_text())


@pytest.mark.parametrize(
    ("difference", "error", "words"),
    [
        (3.0, 1.0, "+3.00 points by the teacher, standard error 1.00 over 400 images. One seed; others differ too."),
        (
            -3.0,
            1.0,
            "-3.00 points by the teacher, standard error 1.00 over 400 images: distillation did not help here. "
            "One seed; others differ too.",
        ),
        (
            2.0,
            1.0,
            "+2.00 points by the teacher, standard error 1.00 over 400 images: no difference that other images "
            "would not undo.",
        ),
        (
            0.0,
            0.0,
            "+0.00 points by the teacher, standard error 0.00 over 400 images: no difference that other images "
            "would not undo.",
        ),
    ],
)
def test_better_worse_and_no_difference(difference, error, words):
    found = {"accuracy": 90.0, "difference": difference, "standard_error": error, "images": 400}
    start = "The same student trained alone is right on 90.00 % of the test images: "
    assert verdict(found, "test") == start + words
    unknown = {**found, "difference": 100.0, "standard_error": math.nan, "images": 1}
    assert "no difference that other images would not undo" in verdict(unknown, "test")


def test_of_files_it_sees_images_of_the_same_side(photos, good, dlkd, tmp_path):
    """That of the teacher, which the baseline has none to ask for."""
    root, flags = ("--data", photos, "--data.workers", 0), ("--engine.threads", 1, "--engine.tensorboard", "false")
    flags += ("--device", "cpu", "--epochs", 1, "--engine.report", "false", "--force")
    good("train", *root, "--data.image_size", 24, "--model", "resnet8x0.5", "--out", tmp_path / "teacher", *flags)
    out = tmp_path / "student"
    good("distill", *root, "--teacher", tmp_path / "teacher", "--student", "resnet8x0.5", "--out", out, *flags,
         "--with-baseline")  # fmt: skip
    assert (
        config(out)["data"]["image_size"] is None and config(tmp_path / "student-baseline")["data"]["image_size"] == 24
    )
    sides = [
        json.loads((tmp_path / n / "student.json").read_text())["card"]["image_size"]
        for n in ("student", "student-baseline")
    ]
    assert sides == [24, 24] and "baseline" in results(out)


def test_killed_while_either_is_trained(distill, dlkd_started, dlkd, same, tmp_path, good):
    """The same command goes on with the baseline, --resume with the student, which knows that there was to be one."""
    more = (*TINY, "--epochs", 40, "--engine.checkpoint_every", 1)
    out, alone = tmp_path / "student", tmp_path / "student-baseline"

    def stopped_once(there):
        started = dlkd_started(distill(out, *more, "--with-baseline"))
        end = time.monotonic() + 120
        while not there.exists() and started.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        started.send_signal(signal.SIGTERM)
        _, err = started.communicate(timeout=120)
        assert started.returncode == 75, err
        return err

    err = stopped_once(alone / "checkpoint.pt")
    assert err == f"dlkd: the student alone, in {alone}, was stopped; give the same command again\n"
    assert not out.exists() and not (alone / "results.json").exists()
    err = stopped_once(out / "checkpoint.pt")
    assert f"go on with --out {out} --resume" in err
    assert (alone / "results.json").is_file() and not (out / "results.json").exists()
    done = good("distill", "--resume", "--out", out)
    assert "is finished" not in done.out and results(out)["baseline"]["verdict"] in " ".join(done.out.split())
    good(*distill(tmp_path / "whole", *more, "--with-baseline"))
    assert same(out, tmp_path / "whole") and same(alone, tmp_path / "whole-baseline")
    assert results(out)["baseline"] == {**results(tmp_path / "whole")["baseline"], "folder": "student-baseline"}


@pytest.fixture
def copy(both, tmp_path):
    for name in ("student", "student-baseline"):
        shutil.copytree(both[0].with_name(name), tmp_path / name)
    return tmp_path / "student"


def test_an_old_baseline_of_other_options(copy, distill, dlkd, good):
    old, alone = results(copy.with_name("student-baseline")), copy.with_name("student-baseline")
    shutil.rmtree(copy)
    command = distill(copy, *TINY, "--with-baseline")
    done = dlkd(*command)
    assert done.status == 2 and done.err.count("\n") == 1
    assert f"the student alone, in {alone}: " in done.err and "delete this folder to train it anew" in done.err
    assert not copy.exists() and results(alone) == old
    good(*command, "--overwrite")
    assert results(copy)["baseline"]["accuracy"] == results(alone)["test"]["accuracy"]
    assert config(alone)["data"]["noise"] == 0


def test_a_baseline_of_other_images_of_the_same_numbers(photos, good, dlkd, tmp_path):
    """A picture was replaced in between: the figures are of other images, and not compared."""
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    flags = ("--data", root, "--data.workers", 0, "--data.image_size", 16, "--engine.threads", 1, "--epochs", 1)
    flags += ("--engine.tensorboard", "false", "--engine.report", "false", "--device", "cpu", "--force")
    good("train", *flags, "--model", "resnet8x0.5", "--out", tmp_path / "teacher")
    command = ("distill", *flags, "--student", "resnet8x0.5", "--teacher", tmp_path / "teacher", "--with-baseline")
    good(*command, "--out", tmp_path / "student")
    with np.load(tmp_path / "student" / "predictions.npz") as found:
        number = int(found["test_ids"][0])
    test_file = sorted(root.glob("*/*.png"))[number]  # folders and files are numbered in their order
    other = next(file for file in sorted(root.glob("*/*.png")) if file.read_bytes() != test_file.read_bytes())
    shutil.copy(other, test_file)
    shutil.rmtree(tmp_path / "student")
    done = dlkd(*command, "--out", tmp_path / "student")
    assert done.status == 2 and "is of other images; delete it and go on with --resume" in done.err
    shutil.rmtree(tmp_path / "student-baseline")
    done = good("distill", "--resume", "--out", tmp_path / "student")
    assert "baseline" in results(tmp_path / "student")


def test_nothing_is_trained_where_it_cannot_be_had(distill, dlkd, teacher, tmp_path):
    done = dlkd(*distill(tmp_path / "run", "--method", "ce", "--with-baseline"))
    assert done.status == 2 and "but got ce, which is the baseline" in done.err
    mine = Path(shutil.copytree(teacher, tmp_path / "run-baseline"))
    before = sorted(file.name for file in mine.iterdir())
    arguments = ("--teacher.weights", mine, "--with-baseline", "--overwrite")
    done = dlkd(*distill(tmp_path / "run", *TINY, *arguments))  # which would replace its own teacher
    assert done.status == 2 and "--teacher.weights outside the folder of the run" in done.err
    assert sorted(file.name for file in mine.iterdir()) == before and not (tmp_path / "run").exists()
    (tmp_path / "other-baseline").mkdir()
    (tmp_path / "other-baseline" / "thesis.txt").touch()
    done = dlkd(*distill(tmp_path / "other", *TINY, "--with-baseline"))
    assert done.status == 2 and "found files that are no run" in done.err and not (tmp_path / "other").exists()


def test_settings_of_the_method_do_not_reach_it(distill, good, tmp_path):
    """Averaged levels need another scale than that of the default, which cross-entropy would have again."""
    out, more = tmp_path / "run", ("--method", "dlkd", "--optim.batch_size", 50)
    good(*distill(out, *more, "--probe.level_views", 2, "--loss.scale", "per_sample", "--with-baseline"))
    assert results(out)["baseline"]["images"] == 359


def test_where_it_lies(tmp_path, monkeypatch):
    (tmp_path / "runs" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "x")
    assert baseline_folder(Path("runs/student")) == Path("runs/student-baseline")
    assert baseline_folder(Path("a.b")) == Path("a.b-baseline")
    assert baseline_folder(Path(".")) == tmp_path / "runs" / "x-baseline"
    assert baseline_folder(Path("..")) == tmp_path / "runs-baseline"
