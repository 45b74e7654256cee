"""Killed anywhere and resumed, a run ends with the very student of a run that was left alone."""

import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from dlkd.errors import UserError
from dlkd.jobs.run import run
from dlkd.train.checkpoint import load_checkpoint
from dlkd.train.options import ModelOptions, TrainOptions

# One child per line; the parent has imported everything and computed nothing.
RUNNER = """
import json, os, signal, sys
import dlkd.jobs.run, dlkd.preflight, dlkd.report
from dlkd.cli import main

def child(fatal, arguments):
    folder, seen = arguments[arguments.index("--out") + 1], 0
    def die_before_change(event, args):  # the interpreter reports each opened and renamed file here, before it acts
        nonlocal seen
        if event in ("open", "os.rename") and str(args[0]).startswith(folder):
            seen += 1
            if seen > fatal >= 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(die_before_change)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    try:
        main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
    os.write(1, f"{seen} ".encode())
    os._exit(code)

for line in sys.stdin:
    fatal, arguments = json.loads(line)
    if (pid := os.fork()) == 0:
        child(fatal, arguments)
    os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\\n".encode())
"""

CASES = {
    "dlkd": ("--probe.level_views", 2, "--views.mixing", "mixup", "--optim.ema", 0.9, "--optim.accumulate", 2),
    "kd": ("--method", "kd", "--optim.optimizer", "adamw", "--optim.lr", 0.001, "--views.mixing", "cutmix"),
}
COMMON = ("--epochs", 2, "--optim.batch_size", 32, "--engine.checkpoint_every", 2)


@pytest.fixture(scope="module")
def runner():
    """Run a command in a child that is killed before its ``fatal``-th change of files; the status and the count."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:

        def ask(arguments, fatal=-1):
            process.stdin.write(json.dumps([fatal, [str(a) for a in arguments]]) + "\n")
            *seen, status = (int(word) for word in process.stdout.readline().split())
            return status, seen[0] if seen else None

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, distill, runner):
    """The folder of each case's run, left alone, and how often it changed files."""
    folder = tmp_path_factory.mktemp("undisturbed")
    found = {}
    for name, options in CASES.items():
        status, changes = runner(distill(folder / name, *COMMON, *options))
        assert status == 0
        found[name] = folder / name, changes
    return found


def metrics(folder):
    """Both tables without what a clock measures."""
    found = []
    for name in ("metrics.csv", "metrics_by_level.csv"):
        with contextlib.suppress(FileNotFoundError), (folder / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
            found += [{k: v for k, v in r.items() if k not in ("images_per_second", "data_wait")} for r in rows]
    return found


def check_whole(folder):
    """Whatever is there under its own name can be read."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.startswith("."):
            continue  # unfinished, and never taken for anything else
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".yaml":
            assert "optim" in yaml.safe_load(path.read_text())
        elif path.name == "labels.npz":
            assert len(np.load(path)["train_ids"]) == 270
        elif path.suffix == ".npz":
            assert all(len(values) for values in np.load(path).values())
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".csv":
            assert path.read_text().endswith("\n")
    load_checkpoint(folder)


def again(folder, arguments):
    """What a user types after a kill."""
    if (folder / "config.yaml").exists():
        return (arguments[0], "--out", folder, "--resume")
    return (*arguments, "--overwrite") if (folder / "run.json").exists() else arguments


@pytest.mark.parametrize("case", CASES)
def test_killed_again_and_again(tmp_path, distill, runner, undisturbed, same, case):
    whole, changes = undisturbed[case]
    arguments, folder = distill(tmp_path / "run", *COMMON, *CASES[case]), tmp_path / "run"
    draw, deaths, steps = random.Random(case), 0, [0]
    for _ in range(6):
        status, _ = runner(again(folder, arguments), draw.randrange(changes // 2))
        check_whole(folder)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        deaths += 1
        found = load_checkpoint(folder)
        steps.append(found.state["step"] if found else 0)
    if status:
        assert runner(again(folder, arguments))[0] == 0
    assert deaths >= 2 and steps == sorted(steps)
    assert same(folder, whole) and metrics(folder) == metrics(whole)
    assert not list(folder.glob(".*.tmp"))
    results = [json.loads((f / "results.json").read_text()) for f in (folder, whole)]
    for result in results:
        assert result.pop("seconds") > 0
        result["training"] = {
            k: v for k, v in result["training"].items() if k not in ("images_per_second", "data_wait")
        }
    assert results[0] == results[1]


def test_killed_between_the_last_checkpoint_and_its_tables(tmp_path, distill, runner, same):
    short = ("--method", "kd", "--optim.batch_size", 90)  # one epoch, after which nobody writes the tables again
    status, changes = runner(distill(tmp_path / "whole", *short))
    assert status == 0
    folder = tmp_path / "run"
    for fatal in range(changes // 2, changes):  # each kill one change later, until one falls between the two
        shutil.rmtree(folder, ignore_errors=True)
        assert runner(distill(folder, *short), fatal)[0] == -signal.SIGKILL
        if load_checkpoint(folder):
            break
    assert load_checkpoint(folder).state["step"] == 3 and not (folder / "metrics.csv").exists()
    assert runner(again(folder, distill(folder)))[0] == 0
    assert same(folder, tmp_path / "whole") and metrics(folder) == metrics(tmp_path / "whole") != []


def test_killed_before_the_options_were_written(tmp_path, dlkd, distill, runner):
    folder = tmp_path / "run"
    for fatal in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        runner(distill(folder), fatal)
        if (folder / "run.json").exists():
            break
    assert not (folder / "config.yaml").exists()
    # Resumed with other defaults it would be another run under the same name.
    done = dlkd("distill", "--out", folder, "--resume")
    assert done.status == 2 and "--overwrite" in done.err


@pytest.fixture
def started(dlkd_started):
    """Killed at the end of the block, however it ends."""

    @contextlib.contextmanager
    def until(arguments):
        with dlkd_started(arguments) as process:
            try:
                yield process
            finally:
                process.kill()

    return until


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_told_to_stop(tmp_path, started, good, distill, undisturbed, same):
    folder = tmp_path / "run"
    slow = ("--epochs", 4, "--optim.batch_size", 8, "--engine.checkpoint_every", 10)
    with started(distill(folder, *slow)) as process:
        wait_for((folder / "checkpoint.pt").exists)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 75
    step = int(re.search(r"^dlkd: stopped after step (\d+) of 132; go on with --out .* --resume$", err, re.M)[1])
    assert load_checkpoint(folder).state["step"] == step and not (folder / "results.json").exists()
    good("distill", "--out", folder, "--resume")
    good(*distill(tmp_path / "whole", *slow))
    assert same(folder, tmp_path / "whole") and metrics(folder) == metrics(tmp_path / "whole")


def test_one_process_works_in_a_folder(tmp_path, started, dlkd, good, distill):
    folder = tmp_path / "run"
    slow = ("--epochs", 4, "--optim.batch_size", 8, "--engine.checkpoint_every", 10)
    with started(distill(folder, *slow)) as process:
        wait_for((folder / "checkpoint.pt").exists)
        process.send_signal(signal.SIGSTOP)  # else it might be through before the others have looked
        before = (folder / "run.json").read_bytes()
        for command in (distill(folder, *slow, "--overwrite"), ("distill", "--out", folder, "--resume")):
            done = dlkd(*command)
            assert done.status == 2 and f"another process is at work in {folder}" in done.err
        assert process.poll() is None and (folder / "run.json").read_bytes() == before
        process.kill()
    assert not (tmp_path / ".run.replaced").exists()
    good("distill", "--out", folder, "--resume")  # the lock died with its process
    assert (folder / "results.json").exists() and not (folder / ".lock").exists()


def test_killed_while_calibrating(tmp_path, started, good, distill, same):
    arguments = distill(tmp_path / "run", "--probe.level_views", 10)
    with started(arguments) as process:
        for line in process.stdout:
            if line.startswith("calibrating"):
                break
        process.kill()
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "run" / "checkpoint.pt").exists()
    good("distill", "--out", tmp_path / "run", "--resume")
    good(*distill(tmp_path / "whole", "--probe.level_views", 10))
    assert same(tmp_path / "run", tmp_path / "whole")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, distill, runner, undisturbed):
    """A run that was killed some way on, with two checkpoints."""
    folder, changes = tmp_path_factory.mktemp("killed") / "run", undisturbed["dlkd"][1]
    for fatal in range(changes // 2, changes):
        shutil.rmtree(folder, ignore_errors=True)
        assert runner(distill(folder, *COMMON, *CASES["dlkd"]), fatal)[0] == -signal.SIGKILL
        if (folder / "checkpoint.pt").exists():
            break
    assert load_checkpoint(folder).state["step"] > 2
    return folder


@pytest.fixture
def stopped(tmp_path, killed, undisturbed):
    """A copy of that run, and the same run left alone."""
    return shutil.copytree(killed, tmp_path / "stopped"), undisturbed["dlkd"][0]


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:2000] + bytes([b[2000] ^ 1]) + b[2001:]])
def test_damaged_checkpoint(stopped, good, same, damage):
    folder, whole = stopped
    current = folder / "checkpoint.pt"
    current.write_bytes(damage(current.read_bytes()))
    done = good("distill", "--out", folder, "--resume")
    note = next(line for line in done.out.splitlines() if "is damaged" in line)
    assert note.startswith("note: ") and "checkpoint.previous.pt" in note
    assert same(folder, whole) and metrics(folder) == metrics(whole)
    assert any("is damaged" in remark for remark in json.loads((folder / "results.json").read_text())["remarks"])


def test_both_checkpoints_damaged(stopped, dlkd):
    folder, _ = stopped
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (folder / name).write_bytes(b"nonsense")
    done = dlkd("distill", "--out", folder, "--resume")
    assert done.status == 2 and "start the run anew" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    "change", [("--seed", 5), ("--optim.lr", 0.2), ("--loss.t_hard", 9), ("--data.noise", 0.2), ("--epochs", 3)]
)
def test_another_option_is_refused_by_name(stopped, dlkd, change):
    folder, _ = stopped
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    done = dlkd("distill", "--out", folder, "--resume", *change)
    assert done.status == 2 and f"{change[0]} is another now" in done.err and done.err.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_the_same_options_again_are_welcome(stopped, good, distill, same):
    folder, whole = stopped
    good(*distill(folder, *COMMON, *CASES["dlkd"]), "--resume")
    assert same(folder, whole)


def test_another_teacher_is_refused(tmp_path, stopped, dlkd, teacher, train, good):
    folder, _ = stopped
    good(*train(tmp_path / "other", "--seed", 3))
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(teacher), str(tmp_path / "other")))
    done = dlkd("distill", "--out", folder, "--resume")
    assert done.status == 2 and "the teacher is not the one" in done.err


def test_nothing_to_resume(tmp_path, dlkd, teacher):
    done = dlkd("train", "--out", tmp_path / "none", "--resume")
    assert done.status == 2 and "there is none" in done.err and not (tmp_path / "none").exists()
    done = dlkd("distill", "--out", teacher, "--resume")
    assert done.status == 2 and "a run of dlkd train, not of dlkd distill" in done.err
    done = dlkd("train", "--out", teacher, "--resume", "--overwrite")
    assert done.status == 2 and "--resume or --overwrite" in done.err


def test_damaged_run_card(stopped, dlkd):
    folder, _ = stopped
    (folder / "run.json").write_text('{"command": ')
    done = dlkd("distill", "--out", folder, "--resume")
    assert done.status == 2 and "run.json is damaged" in done.err and done.err.count("\n") == 1


def test_finished_run_says_so(tmp_path, good, teacher):
    before = {p: p.read_bytes() for p in teacher.iterdir() if p.is_file()}
    done = good("train", "--out", teacher, "--resume")
    assert f"{teacher} is finished; see" in done.out
    assert {p: p.read_bytes() for p in teacher.iterdir() if p.is_file()} == before


def test_other_options_are_refused_in_python_too(teacher):
    with pytest.raises(UserError, match="is another now"):
        run(TrainOptions(out=teacher, resume=True, model=ModelOptions("resnet14")), quiet=True)
