"""Every block of the README is executed."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_block(block):
    exec(compile(block, "README.md", "exec"), {})


def test_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert commands and all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in commands)
