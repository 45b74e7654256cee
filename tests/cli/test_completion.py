"""The completion script in a real bash; those of the other shells where they are installed."""

import dataclasses
import shutil
import subprocess
from pkgutil import resolve_name
from typing import get_type_hints

import pytest

from dlkd.cli.commands import COMMANDS

ASK = """\
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_dlkd
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory, dlkd):
    """The file of each shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = dlkd("completion", shell)
        assert done.status == 0 and done.err == ""
        (folder / shell).write_text(done.out)
    return folder


@pytest.fixture
def here(tmp_path):
    """A folder with some files in it."""
    (tmp_path / "my photos").mkdir()
    (tmp_path / "model.onnx").touch()
    return tmp_path


@pytest.fixture
def complete(script, here):
    """What bash offers where the cursor is behind the last word."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")

    def ask(*words):
        asked = [bash, "--norc", "-c", ASK, "bash", script / "bash", "dlkd", *words]
        done = subprocess.run(asked, capture_output=True, text=True, cwd=here, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines() if done.stdout.strip() else []

    return ask


def test_commands(complete):
    assert set(complete("")) == {name.split()[0] for name in COMMANDS}
    assert complete("dist") == ["distill"] and complete("-") == ["--help", "--version"]
    assert complete("store", "") == ["build", "verify", "repair", "info"] and complete("store", "v") == ["verify"]
    assert complete("nonsense", "--") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command(complete, name):
    command = COMMANDS[name]
    found = complete(*name.split(), "--")
    hints = get_type_hints(resolve_name(command.options))
    fields = {field.name for field in dataclasses.fields(resolve_name(command.options))}
    groups = {field for field in fields if dataclasses.is_dataclass(hints[field])}
    assert {f"--{field}" for field in fields - groups} <= set(found)
    assert {f"--{flag}" for flag in (*command.flags, *command.screen)} <= set(found) and len(found) == len(set(found))
    for group in groups:
        assert any(option.startswith(f"--{group}.") for option in found) and f"--{group}" not in found


def test_options_are_narrowed_down(complete):
    assert complete("evaluate", "--sp") == ["--split"]
    assert complete("distill", "--teacher.w") == ["--teacher.weights"]


def test_values(complete):
    assert complete("evaluate", "--split", "") == ["test", "held_out", "train"]
    assert complete("evaluate", "--split", "=", "h") == ["held_out"]
    assert complete("evaluate", "--split", "=") == ["test", "held_out", "train"]
    assert complete("distill", "--method", "dkd") == ["dkd"] and "dlkd" in complete("distill", "--method", "d")
    assert complete("train", "--data.download", "f") == ["false"]
    assert complete("train", "--data.name", "fo") == ["food101", "folder"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]
    assert complete("train", "--seed", "") == []  # a number, which nobody knows
    assert complete("train", "--epochs", "") == ["auto"]
    assert "cifar100/lite" in complete("distill", "--config", "cifar100/")


def test_files(complete):
    assert set(complete("evaluate", "--weights", "")) == {"my photos", "model.onnx"}
    assert complete("evaluate", "--weights", "my") == ["my photos"]
    assert complete("predict", "mo") == ["model.onnx"]
    assert complete("predict", "model.onnx", "--images", "model.onnx", "my") == ["my photos"]
    assert complete("train", "--config", "mo") == ["model.onnx"]
    assert complete("train", "--overwrite", "mo") == ["model.onnx"]  # it takes no value


def test_unknown_shell(dlkd):
    done = dlkd("completion", "tcsh")
    assert done.status == 2 and "bash, zsh, fish" in done.err
    assert "dlkd completion bash" in dlkd("completion").err


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_syntax_of_other_shells(script, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    subprocess.run([shell, "-n", script / shell], check=True)


def test_fish_knows_the_same(script):
    text = (script / "fish").read_text()
    assert "-l teacher.weights -r -F" in text and "-l split -x -a 'test held_out train'" in text
    assert "-l overwrite\n" in text and "@" not in text and "@" not in (script / "zsh").read_text()
