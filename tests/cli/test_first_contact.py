"""The first hour: one screen of help, examples that run, errors that say what to type next."""

import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlkd.cli.commands import COMMANDS, GROUPS
from dlkd.cli.help import EXAMPLES

ROOT = Path(__file__).parents[2]


def test_help_fits_a_screen_and_names_every_command(dlkd):
    done = dlkd("--help")
    assert done.status == 0 and done == dlkd() == dlkd("-h")
    lines = done.out.splitlines()
    assert len(lines) <= 28 and max(map(len, lines)) <= 80
    named = {word for line in lines for word in line[:20].split()}
    assert {name.split()[0] for name in COMMANDS} <= named
    assert [line.strip() for line in lines if line.startswith("  dlkd ")] == [f"dlkd {each}" for each in EXAMPLES]


def test_examples_of_the_first_screen_run_in_their_order(dlkd_process, tmp_path):
    for example in EXAMPLES:
        done = dlkd_process(*shlex.split(example), cwd=tmp_path)
        assert done.status == 0, done.err
    assert "accuracy" in done.out


def test_help_imports_no_torch(tmp_path):
    for arguments in (["--help"], [], ["--version"], ["trian"], ["store"]):
        code = (
            "import sys\nfrom dlkd.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
            "print('torch' in sys.modules, 'numpy' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_begins_with_usage_and_an_example(dlkd, name):
    done = dlkd(*name.split(), "--help")
    first, second = done.out.splitlines()[:2]
    assert done.status == 0 and first.startswith(f"usage: dlkd {name}") and first.endswith("[options]")
    assert second == f"example: dlkd {COMMANDS[name].example}"
    assert ("--quiet" in done.out) == COMMANDS[name].says and ("--json" in done.out) == COMMANDS[name].json


@pytest.mark.parametrize("name", COMMANDS)
def test_example_of_a_command_is_understood(dlkd, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = shlex.split(COMMANDS[name].example)
    if "--images" in example:  # the rest of the words are its own
        example = example[: example.index("--images")]
    for place in ("photos", "runs/teacher"):  # what a word stands for is looked up
        (tmp_path / place).mkdir(parents=True)
    done = dlkd(*example, "--print_config")
    assert done.status == 0 and done.err == "", done.err
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"photos", "runs", "runs/teacher"}


def test_group_says_what_is_in_it(dlkd):
    for group in GROUPS:
        assert "dlkd --help" in dlkd(group).err and f"{group} info" in dlkd(group).err


@pytest.fixture
def unfinished(tmp_path):
    """A run of ``dlkd train`` that was stopped."""
    folder = tmp_path / "half a run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"command": "train"}))
    return folder


def test_errors_name_what_to_type_next(dlkd, tmp_path, monkeypatch, photos, unfinished):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    folder = ("--data.name", "folder", "--data.root")
    go_on = f"dlkd train --resume --out '{unfinished}'"
    for command, next_ in (
        (("distill",), "dlkd train --out runs/teacher"),
        (("distill", "--teacher.weights", "none"), "dlkd train --out none"),
        (("distill", "--teacher.name", "resnet20"), "--teacher.weights RUN_OR_FILE"),
        (("distill", "--teacher.weights", unfinished), go_on),
        (("evaluate", "--weights", unfinished), go_on),
        (("train", "--data.root", photos), f"--data.name folder --data.root {photos}"),
        (("train", "--data.name", photos), f"--data.name folder --data.root {photos}"),
        (("train", "--data", "fotos"), "one sub-folder of images a class"),
        (("train", *folder, "none"), "--data.root"),
        (("train", *folder, "bare"), "bare/CLASS"),
        (("evaluate",), "dlkd evaluate --weights runs/student"),
        (("export",), "dlkd export runs/student"),
        (("predict", "none"), "--images photos"),
        (("tune",), "--methods '[kd, dlkd]'"),
        (("clean", "none"), "dlkd audit"),
        (("store", "info", "--store", "none"), "dlkd store build"),
    ):
        done = dlkd(*command)
        assert done.status == 2 and done.err.count("\n") == 1 and next_ in done.err, (command, done.err)


def test_classes_that_differ_name_the_command_that_goes_on(dlkd, good, photos, tmp_path):
    data = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 16, "--data.workers", 0)
    small = ("--epochs", 1, "--optim.batch_size", 8, "--engine.report", "false", "--device", "cpu")
    model = ("--model.name", "resnet8x0.5")
    good("train", *data, *small, *model, "--out", tmp_path / "first")
    others = tmp_path / "others"
    others.mkdir()
    for old, new in (("zero", "cat"), ("one", "dog")):
        (others / new).symlink_to(photos / old)
    data = ("--data.name", "folder", "--data.root", others, "--data.image_size", 16, "--data.workers", 0)
    done = dlkd("distill", *data, *small, "--teacher.weights", tmp_path / "first", "--out", tmp_path / "student")
    command = re.search(r"(dlkd train .*)", done.err)
    assert done.status == 2 and command is not None, done.err
    told = shlex.split(command[1])[1:]
    told[told.index("--out") + 1] = str(tmp_path / "second")
    assert f"--data {others}" in command[1] and "--data.image_size 16" in command[1]
    good(*told, *small)
    # Few images and one epoch make a poor teacher.
    more = ("--teacher.weights", tmp_path / "second", "--out", tmp_path / "student", "--force")
    good("distill", *data, *small, *more)


def on_a_terminal(tmp_path, arguments, **env):
    """What a terminal receives."""
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "dlkd", *map(str, arguments)],
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env={**environment, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **env},
    )
    os.close(theirs)
    received = b""
    while select.select([ours], [], [], 120)[0]:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        received += part
    os.close(ours)
    assert process.wait() == 0, received
    return received.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*\b(3[0-9]|4[0-9]|9[0-7]|10[0-7])\b[0-9;]*m")


def test_no_color(tmp_path, train):
    run = train("run", "--data.per_class", "10")
    assert COLOUR.search(on_a_terminal(tmp_path, run)) is not None  # of the bar: the search finds what is there
    assert COLOUR.search(on_a_terminal(tmp_path, (*run, "--overwrite"), NO_COLOR="1")) is None
    for command in (("methods",), ("evaluate", "--weights", "run")):
        assert COLOUR.search(on_a_terminal(tmp_path, command, NO_COLOR="1")) is None


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_block_of_the_guide_runs(tmp_path):
    section = (ROOT / "docs" / "guide.md").read_text().partition("## First contact")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "dlkd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dlkd "$@"\n')
    (tmp_path / "dlkd").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    shell = ["bash", "--norc", "-ec", block + "\ndeclare -F _dlkd"]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0 and done.stdout.endswith("\n_dlkd\n"), done.stderr
    assert "All is well" in done.stdout and [path.name for path in tmp_path.iterdir()] == ["dlkd"]
