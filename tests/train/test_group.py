"""Two processes train the student that one trains; when one is lost, the other says so, and the run can go on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from together import CASES, run

from dlkd.errors import UserError
from dlkd.train.checkpoint import load_checkpoint
from dlkd.train.fit import AGREE_EVERY
from dlkd.train.launch import Launch

HERE = Path(__file__).parent
RUN = (sys.executable, "-m", "torch.distributed.run")


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), **more}


def started(*arguments, **options):
    """A launcher in a process group of its own, so that nothing of it is left behind."""
    command = [str(a) for a in (*RUN, *arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment(), start_new_session=True, **pipes, **options)


def output(launcher, status=0):
    """What all of its processes said."""
    try:
        said, _ = launcher.communicate(timeout=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
    assert (launcher.returncode == 0) == (status == 0), said
    return said


@pytest.fixture(scope="module")
def two(tmp_path_factory, teacher):
    """The runs of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    return folder, output(started("--standalone", "--nproc_per_node", 2, HERE / "together.py", folder, teacher, *CASES))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_student_of_one(tmp_path, teacher, two, weights, table, name):
    run(tmp_path, str(teacher), name)
    alone, together = tmp_path / name.replace(" ", "-"), two[0] / name.replace(" ", "-")
    one, other = weights(alone), weights(together)
    start = load_start()
    assert max((one[k] - start[k]).abs().max() for k in one) > 1e-3  # it has learnt something
    for k, value in one.items():
        torch.testing.assert_close(other[k], value, rtol=1e-5, atol=2e-6)
    rows, others = (table(folder / "metrics.csv") for folder in (alone, together))
    assert len(rows) == len(others) == 2
    for row, found in zip(rows, others, strict=True):
        assert row.keys() == found.keys()
        for key in row.keys() - {"images_per_second", "data_wait"}:
            assert found[key] == pytest.approx(row[key], rel=1e-5, abs=1e-6), key
    first, second = (load_checkpoint(folder).state for folder in (alone, together))
    if first["level"] is not None:
        assert torch.equal(first["level"]["quantiles"], second["level"]["quantiles"])
    with np.load(alone / "labels.npz") as a, np.load(together / "labels.npz") as b:
        assert a.files == b.files and all(np.array_equal(a[k], b[k]) for k in a.files)


def load_start():
    """The initial student of seed 0."""
    from together import small

    torch.manual_seed(0)
    return small().state_dict()


def test_one_of_them_speaks(two):
    said = two[1]
    assert said.count("Preflight") == len(CASES) and "Traceback" not in said
    assert said.count(" test images, calibration error") == len(CASES)


def arguments(out, teacher, *more):
    return (
        *("distill", "--out", out, "--student.name", "together:small", "--teacher.weights", teacher, "--device", "cpu"),
        *("--data.per_class", 30, "--optim.batch_size", 16, "--optim.lr", 0.01, "--engine.threads", 1),
        *("--engine.report", "false", "--engine.tensorboard", "false", *more),
    )


def test_two_machines_build_one_store_and_train_from_it(tmp_path, teacher, good, weights):
    """Two launchers on this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ = arguments(tmp_path / "two", teacher, "--epochs", 2, "--store", tmp_path / "store", "--storage.dtype", "fp32")
    launchers = [
        started(
            *("--nnodes", 2, "--nproc_per_node", 1, "--node_rank", k, "--master_addr", "127.0.0.1"),
            *("--master_port", port, "-m", "dlkd", *run_),
        )
        for k in range(2)
    ]
    for launcher in launchers:
        output(launcher)
    good("store", "verify", "--store", tmp_path / "store")
    good(*arguments(tmp_path / "one", teacher, "--epochs", 2))
    one, other = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(other[k], one[k], rtol=1e-5, atol=2e-6) for k in one)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return sorted(int(line) for line in found.stdout.split())


def wait_for_checkpoint(out, launcher):
    deadline = time.monotonic() + 180
    while not (out / "checkpoint.pt").exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def test_one_is_killed_the_other_says_so_and_one_alone_goes_on(tmp_path, teacher, good, table):
    out = tmp_path / "two"
    epochs = ("--epochs", 30, "--engine.checkpoint_every", 5, "--engine.evaluate_every", 0)
    launcher = started(
        "--standalone", "--nproc_per_node", 2, "-m", "dlkd", *arguments(out, teacher, *epochs), cwd=tmp_path
    )
    wait_for_checkpoint(out, launcher)
    os.kill(children(launcher.pid)[-1], signal.SIGKILL)
    said = output(launcher, status=1)
    lines = [line for line in said.splitlines() if line.startswith("dlkd: ")]
    # Whoever started them may end the other before it has noticed.
    assert all("another of the 2 processes of this run ended" in line for line in lines) and len(lines) <= 1, said
    assert "rank" in said and 'Traceback (most recent call last):\n  File "/work' not in said
    state = load_checkpoint(out).state
    assert 0 < state["step"] < 30 * 16
    good("distill", "--out", out, "--resume", "--student.name", "together:small")
    good(*arguments(tmp_path / "one", teacher, *epochs))
    one, other = (table(folder / "metrics.csv") for folder in (tmp_path / "one", out))
    assert len(other) == 30 and other[-1]["loss"] == pytest.approx(one[-1]["loss"], rel=1e-2)


def as_srun(*tasks):
    """Status and words of tasks, each with its own arguments, in an environment like that of srun."""
    slurm = {"JOB_NAME": "interactive", "JOB_ID": "12345", "NNODES": 1, "NODELIST": "localhost", "NODEID": 0}
    slurm |= {"NTASKS": len(tasks), "NTASKS_PER_NODE": len(tasks), "STEP_NUM_TASKS": len(tasks)}
    started_ = []
    for rank, task in enumerate(tasks):
        names = {f"SLURM_{k}": str(v) for k, v in (slurm | {"PROCID": rank, "LOCALID": rank}).items()}
        command = [sys.executable, "-m", "dlkd", *map(str, task)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started_.append(subprocess.Popen(command, env=environment(**names), **pipes))
    said = [task.communicate(timeout=240)[0] for task in started_]
    return list(zip((task.returncode for task in started_), said, strict=True))


def test_as_srun_starts_them(tmp_path, teacher, table):
    run_ = arguments(tmp_path / "run", teacher, "--epochs", 1)
    (one, first), (other, second) = as_srun(run_, run_)
    assert (one, other) == (0, 0), (first, second)
    assert "test images, calibration error" in first and second == ""
    assert table(tmp_path / "run" / "metrics.csv")[-1]["samples"] == 256


def test_one_that_cannot_start_ends_the_other_in_one_line(tmp_path, teacher):
    run_ = arguments(tmp_path / "run", teacher)
    (one, first), (other, second) = as_srun(run_, (*run_, "--student.weights", tmp_path / "none.pth"))
    assert (one, other) == (2, 2), (first, second)
    assert "none.pth" in second and second.count("dlkd: error: ") == 1
    assert "dlkd: error: another of the 2 processes" in first and "Traceback" not in first + second
    assert not (tmp_path / "run").exists()


def test_told_to_stop_they_stop_after_the_same_step(tmp_path, teacher):
    out = tmp_path / "two"
    epochs = ("--epochs", 60, "--engine.checkpoint_every", 5, "--engine.evaluate_every", 0)
    launcher = started(
        "--standalone", "--nproc_per_node", 2, "-m", "dlkd", *arguments(out, teacher, *epochs), cwd=tmp_path
    )
    wait_for_checkpoint(out, launcher)
    launcher.send_signal(signal.SIGTERM)
    lines = [line for line in output(launcher, status=1).splitlines() if line.startswith("dlkd: ")]
    step = load_checkpoint(out).state["step"]
    assert lines == [f"dlkd: stopped after step {step} of 960; go on with --out {out} --resume"]
    assert step % AGREE_EVERY == 0 and not (out / "results.json").exists() and not (out / ".lock").exists()


def test_launchers_are_known_by_what_they_leave_in_the_environment():
    assert Launch.found({}) == Launch() == Launch(1, 0, 1)
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "RANK": "5", "LOCAL_WORLD_SIZE": "4"}
    assert Launch.found(torchrun) == Launch(8, 5, 2, "torchrun")
    srun = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "3", "SLURM_NNODES": "2"}
    assert Launch.found(srun) == Launch(16, 3, 2, "srun")
    shell = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_NNODES": "2"}
    assert Launch.found(shell) == Launch()
    with pytest.raises(UserError, match=r"expected the variables of torchrun or srun .* 'RANK'"):
        Launch.found({k: v for k, v in torchrun.items() if k != "RANK"})


def test_bad_input_is_one_line_of_each(tmp_path, teacher):
    odd = arguments(tmp_path / "run", teacher, "--optim.batch_size", 15)
    launcher = started("--standalone", "--nproc_per_node", 2, "-m", "dlkd", *odd, cwd=tmp_path)
    lines = [line for line in output(launcher, status=1).splitlines() if line.startswith("dlkd: ")]
    words = "give an --optim.batch_size that 2 divides"
    assert 1 <= len(lines) <= 2 and all(words in line and "of 2)" in line for line in lines), lines
    assert not (tmp_path / "run").exists()
