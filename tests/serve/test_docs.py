"""The commands and calls of docs/serve.md, one after the other, against a server that its first command starts."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
START, CURL, EXAMPLE, PYTHON = (text for _, text in BLOCKS)


def alike(found, expected):
    """The same names and kinds of values."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(alike(found[k], expected[k]) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return type(found) is type(expected)


@pytest.fixture
def here(server, digits, tmp_path, monkeypatch):
    """A folder with the picture, and the blocks for the port that was free."""
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "json", "python"]
    # The server of these tests was started so, in the folder above the run.
    assert shlex.split(START) == ["dlkd", "serve", server.said[-1].split()[1]]
    (tmp_path / "digit.png").write_bytes(digits[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    return lambda block: block.replace("http://127.0.0.1:8000/", server.url)


def test_curl(here, server):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = here(CURL).splitlines()
    done = [subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=60).stdout for line in lines]
    form, raw, health = map(json.loads, done)
    assert form == raw and health["status"] == "ok" and server.url not in CURL
    example, top = json.loads(EXAMPLE), ("predictions", "teacher", "probe")
    assert alike(form | {name: form[name][:2] for name in top}, example)
    assert set(re.findall(r"\b(predictions|teacher|probe|difficulty|temperature)\b", TEXT)) == set(example)


def test_python(here, capsys):
    exec(compile(here(PYTHON), PAGE.name, "exec"), {})
    assert capsys.readouterr().out.startswith("{'label': '")


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert targets and all(os.path.exists(PAGE.parent / target) for target in targets), targets


def test_the_figures_are_the_defaults():
    from dlkd.serve.job import ServeOptions

    options = ServeOptions(Path("run"))
    assert f"`--max_bytes` {options.max_bytes // 10**6} MB" in TEXT
    assert f"`--max_pixels` {options.max_pixels // 10**6} million" in TEXT
    for name in ("concurrency", "waiting", "seconds", "top"):
        assert f"`--{name}` {getattr(options, name):g} " in TEXT, name
    assert f"http://{options.host}:{options.port}/" in TEXT
