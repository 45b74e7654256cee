"""Whatever is done to a run, a good checkpoint is left, and a bad one is never believed."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkd.errors import UserError
from dlkd.files import clean_temporaries
from dlkd.train import checkpoint
from dlkd.train.checkpoint import _payload, load_checkpoint, save_checkpoint

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"

WRITER = """
import os, signal, sys
from pathlib import Path
import torch
from dlkd.train.checkpoint import save_checkpoint

folder, fatal, seen = Path(sys.argv[1]), -1, 0

def die_before_change(event, args):  # the interpreter reports each opened and renamed file here, before it acts
    global seen
    if event in ("open", "os.rename") and str(args[0]).startswith(str(folder)):
        seen += 1
        if seen > fatal >= 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die_before_change)
for line in sys.stdin:  # one child per line; torch is imported once
    step, fatal = (int(word) for word in line.split())
    if (pid := os.fork()) == 0:
        while True:
            step, seen = step + 1, 0
            save_checkpoint(folder, {"step": step, "weight": torch.full((20_000,), float(step))})
            os.write(1, f"saved {step}\\n".encode())
            if fatal >= 0:
                os._exit(0)
    os.write(1, f"pid {pid}\\n".encode())
    os.waitpid(pid, 0)
    os.write(1, b"dead 0\\n")
"""


@contextmanager
def writer(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=environment,
    ) as process:
        yield process
        process.stdin.close()


def state(step):
    return {"step": step, "model": {"weight": torch.full((50,), float(step))}, "betas": (0.9, 0.999), "ema": None}


def two(folder):
    save_checkpoint(folder, state(1))
    save_checkpoint(folder, state(2))
    return folder / CURRENT, folder / PREVIOUS


def test_round_trip_and_the_one_before_is_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / "none") is None
    current, previous = two(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.path == current and loaded.warning is None and loaded.state["step"] == 2
    assert torch.equal(loaded.state["model"]["weight"], torch.full((50,), 2.0))
    assert loaded.state["betas"] == (0.9, 0.999) and loaded.state["ema"] is None
    current.unlink()
    loaded = load_checkpoint(tmp_path)
    assert loaded.path == previous and loaded.state["step"] == 1 and f"{current} is missing" in loaded.warning


def test_optimizer_state_comes_back(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 1, 4, 4)).square().sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, {"m": model.state_dict(), "o": optimizer.state_dict(), "rng": torch.get_rng_state()})
    loaded = load_checkpoint(tmp_path).state
    assert torch.equal(loaded["rng"], torch.get_rng_state())
    for index, kept in optimizer.state_dict()["state"].items():
        assert torch.equal(loaded["o"]["state"][index]["exp_avg"], kept["exp_avg"])
    assert all(torch.equal(loaded["m"][name], value) for name, value in model.state_dict().items())


def test_header_says_what_it_holds(tmp_path):
    save_checkpoint(tmp_path, state(1))
    line, payload = (tmp_path / CURRENT).read_bytes().split(b"\n", 1)
    assert line.decode() == f"dlkd-checkpoint 1 {hashlib.sha256(payload).hexdigest()} {len(payload)}"


def test_any_flipped_byte_is_noticed(tmp_path):
    current, _ = two(tmp_path)
    good = current.read_bytes()
    header = good.index(b"\n") + 1
    weight = good.index(torch.full((50,), 2.0).numpy().tobytes())  # torch alone would believe a change in here
    places = {*range(header), weight, weight + 77, len(good) - 1, *range(header, len(good), 101)}
    for place in places:
        for mask in (0x01, 0x20, 0xFF):
            bad = bytearray(good)
            bad[place] ^= mask
            current.write_bytes(bad)
            loaded = load_checkpoint(tmp_path)
            assert loaded.state["step"] == 1 and str(current) in loaded.warning and "\n" not in loaded.warning, place
    current.write_bytes(good)
    assert load_checkpoint(tmp_path).state["step"] == 2


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b[:50], lambda b: b""])
def test_truncated_or_longer_file_is_noticed(tmp_path, change):
    current, _ = two(tmp_path)
    good = current.read_bytes()
    for bad in (change(good), good + b"\0"):
        current.write_bytes(bad)
        assert load_checkpoint(tmp_path).state["step"] == 1


def test_nothing_good_is_one_line(tmp_path):
    current, previous = two(tmp_path)
    current.write_bytes(b"x")
    previous.write_bytes(previous.read_bytes()[:-5])
    with pytest.raises(UserError) as caught:
        load_checkpoint(tmp_path)
    message = str(caught.value)
    assert str(current) in message and str(previous) in message and "\n" not in message
    current.unlink()
    with pytest.raises(UserError, match="missing"):
        load_checkpoint(tmp_path)


def test_code_in_a_file_with_the_right_digest_is_not_run(tmp_path):
    target = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return Path.touch, (target,)

    buffer = io.BytesIO()
    torch.save({"step": Trap()}, buffer)
    payload = buffer.getvalue()
    header = f"dlkd-checkpoint 1 {hashlib.sha256(payload).hexdigest()} {len(payload)}\n".encode()
    (tmp_path / CURRENT).write_bytes(header + payload)
    with pytest.raises(UserError, match="cannot be read by torch"):
        load_checkpoint(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(2), {1, 2}, Path("x"), [{"a": object()}]])
def test_what_could_not_be_read_back_is_refused_when_saved(tmp_path, value):
    two(tmp_path)
    with pytest.raises(TypeError, match=r"expected state\['rng'\]"):
        save_checkpoint(tmp_path, {"rng": value})
    assert load_checkpoint(tmp_path).state["step"] == 2


def test_damaged_current_never_replaces_good_previous(tmp_path):
    current, _ = two(tmp_path)
    current.write_bytes(current.read_bytes()[:-1])
    save_checkpoint(tmp_path, state(3))
    current.unlink()
    assert load_checkpoint(tmp_path).state["step"] == 1


def test_what_this_process_wrote_is_not_read_again(tmp_path, monkeypatch):
    """But what anybody has touched since is, though size and time be the same."""
    read = []
    monkeypatch.setattr(checkpoint, "_payload", lambda path: read.append(path) or _payload(path))
    current, previous = two(tmp_path)
    assert read == [current]  # before the first, when there was none
    assert previous.exists() and load_checkpoint(tmp_path).state["step"] == 2
    read.clear()
    before = current.stat()
    content = bytearray(current.read_bytes())
    content[-1] ^= 1
    time.sleep(0.05)  # the clocks of file systems are coarse
    current.write_bytes(content)
    os.utime(current, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.chdir(tmp_path.parent)
    save_checkpoint(Path(tmp_path.name), state(3))
    assert read == [Path(tmp_path.name) / CURRENT]  # and the damaged one was not kept
    current.unlink()
    assert load_checkpoint(tmp_path).state["step"] == 1


def test_temporaries_are_cleaned_and_nothing_else(tmp_path):
    current, previous = two(tmp_path)
    others = [tmp_path / name for name in (".vscode.settings", "notes.tmp", ".a.tmp", ".checkpoint.pt.ABCDEFGH.tmp")]
    left = [tmp_path / ".checkpoint.pt.ab_d3fgh.tmp", tmp_path / ".run.json.zzzzzzzz.tmp"]
    for path in (*others, *left):
        path.write_text("x")
    clean_temporaries(tmp_path)
    assert set(tmp_path.iterdir()) == {current, previous, *others}


@pytest.mark.parametrize("damaged", [False, True])
def test_killed_before_each_change_of_the_folder(tmp_path, damaged):
    finished, survived = False, []
    with writer(tmp_path) as process:
        for fatal in range(20):
            for path in tmp_path.iterdir():
                path.unlink()
            current, _ = two(tmp_path)
            if damaged:
                current.write_bytes(current.read_bytes()[:-1])
            process.stdin.write(f"2 {fatal}\n")
            said = [process.stdout.readline().split()[0] for _ in range(2)]
            if "saved" in said:
                said.append(process.stdout.readline().split()[0])
            survived.append(load_checkpoint(tmp_path).state["step"])
            if finished := "saved" in said:
                break
    # Opened to judge the old file, opened to write, renamed (twice if the old one is good), opened to sync.
    assert finished and survived == ([1, 1, 1, 3, 3] if damaged else [2, 2, 2, 2, 3, 3])


def test_killed_at_random_never_goes_back(tmp_path):
    draw, last, temporaries = random.Random(0), 0, 0
    with writer(tmp_path) as process:
        for kills in range(200):
            if kills >= 12 and last > 12 and temporaries:  # some kills did fall into a write
                break
            process.stdin.write(f"{last} -1\n")
            words, pid, deadline = [], None, None
            while not words or words[0] != "dead":
                words = process.stdout.readline().split()
                if words[0] == "saved":
                    last = int(words[1])
                elif words[0] == "pid":
                    pid = int(words[1])
                if pid and last and deadline is None:
                    deadline = time.monotonic() + draw.uniform(0.0, 0.08)
                # Saves go on while we wait: their lines are small and fit the pipe.
                if deadline and pid and words[0] != "dead":
                    time.sleep(max(0.0, deadline - time.monotonic()))
                    os.kill(pid, signal.SIGKILL)
                    pid = None
            loaded = load_checkpoint(tmp_path)
            assert last <= loaded.state["step"] <= last + 1
            assert torch.equal(loaded.state["weight"], torch.full((20_000,), float(loaded.state["step"])))
            last = loaded.state["step"]
            temporaries += len(list(tmp_path.glob(".*")))
            clean_temporaries(tmp_path)
            assert {path.name for path in tmp_path.iterdir()} <= {CURRENT, PREVIOUS}
    assert last > 12 and temporaries > 0


def full_disk(folder, setup=""):
    """Save 8 MB to ``folder`` in a child; its message."""
    code = (
        f"{setup}\nimport sys, torch\nfrom pathlib import Path\nfrom dlkd.errors import UserError\n"
        "from dlkd.train.checkpoint import save_checkpoint\n"
        "try:\n    save_checkpoint(Path(sys.argv[1]), {'step': 3, 'weight': torch.zeros(2_000_000)})\n"
        "except UserError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_nothing_changed(folder, setup=""):
    before = [path.read_bytes() for path in two(folder)]
    message = full_disk(folder, setup)
    assert message.startswith(f"could not write {folder / CURRENT}: ") and message.count("\n") == 1
    assert "is the disk full?" in message
    assert [(folder / name).read_bytes() for name in (CURRENT, PREVIOUS)] == before
    assert {path.name for path in folder.iterdir()} == {CURRENT, PREVIOUS}


def test_file_size_limit_leaves_both_old_files(tmp_path):
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    )
    check_nothing_changed(tmp_path, limit)


def test_full_disk_leaves_both_old_files(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.strip()}")
    try:
        check_nothing_changed(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
