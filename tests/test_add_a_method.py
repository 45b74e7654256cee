"""docs/add-a-method.md, as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from dlkd.errors import UserError
from dlkd.methods import make_method

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-method.md").read_text()


@pytest.fixture
def here(tmp_path, monkeypatch):
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "likeliest.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_as_written(here, teacher, dlkd_process):
    (here / "runs").mkdir()
    (here / "runs" / "teacher").symlink_to(teacher)
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    first, second, listed = (shlex.split(line)[1:] for line in block.splitlines())
    small = ("--data.per_class", 30, "--device", "cpu", "--engine.tensorboard", "false", "--engine.report", "false")
    for command in (first, second):
        done = dlkd_process(*command, *small, cwd=here)
        assert done.status == 0, done.err
        assert (here / command[command.index("--out") + 1] / "student.safetensors").is_file()
    shown = dlkd_process(*listed, cwd=here)
    assert shown.status == 0 and "three classes" in shown.out and "t_easy 2.0" in shown.out


def test_what_is_no_method(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    assert make_method("kd+likeliest:TOP3").divergence.__name__ == "top3_kl"
    for name, message in (
        ("likeliest:TOP4", "no such name"),
        ("likeliest:top3_kl", "to be a dlkd.methods.Method, but it is function"),
        ("likelier:TOP3", "expected a Python module 'likelier' for the method"),
        ("dkd+likeliest:TOP3", "each has a divergence of its own"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            make_method(name)
