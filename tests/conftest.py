"""What many tests share: the command in this process or its own, a small trained teacher, a folder of images."""

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkd.cli import main

sys.path.append(str(Path(__file__).parent / "helpers"))
SMALL = (
    *("--data.per_class", "30", "--epochs", "1", "--device", "cpu"),
    *("--engine.threads", "1", "--engine.tensorboard", "false", "--engine.report", "false"),
)


COSTLY = {"compare", "test_quickstart", "test_output", "test_faq", "test_site", "test_group", "test_answers"}
"""Folders and files whose tests share what takes long to make."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """They stay in one of several processes (``--dist loadgroup``), where it is made once."""
    for item in items:
        for name in COSTLY.intersection((item.path.parent.name, item.path.stem)):
            item.add_marker(pytest.mark.xdist_group(name))


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def run_here(*arguments):
    """The command in this process, where torch is imported already."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:  # what a user would see
            traceback.print_exc()
            status = 1
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def dlkd():
    """Run ``dlkd ARGUMENTS`` in this process."""
    return run_here


@pytest.fixture(scope="session")
def good(dlkd):
    """The same, and it has to succeed."""

    def run(*arguments):
        done = dlkd(*arguments)
        assert done.status == 0, done.err
        return done

    return run


@pytest.fixture(scope="session")
def shown():
    """The value of a figure in the table that ``dlkd evaluate`` printed."""
    return lambda done, name: re.search(rf"│ {name} +│ (\S+)", done.out).group(1)


@pytest.fixture(scope="session")
def dlkd_process():
    """Run ``python -m dlkd ARGUMENTS`` as a user would; keywords go to ``subprocess.run``."""

    def run(*arguments, env=(), **options):
        done = subprocess.run(
            [sys.executable, "-m", "dlkd", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **dict(env)},
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def dlkd_started():
    """The same, begun and not waited for; keywords go to ``subprocess.Popen``."""

    def start(arguments, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "dlkd", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **options,
        )

    return start


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, good):
    """The folder of a ``dlkd train`` run on 300 digits; well above nine tenths right."""
    out = tmp_path_factory.mktemp("shared") / "teacher"
    good(
        *("train", "--out", out, "--model.name", "resnet8x0.5", *SMALL, "--epochs", 20),
        *("--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16),
    )
    return out


@pytest.fixture(scope="session")
def distill(teacher):
    """The arguments of a small ``dlkd distill`` from the shared teacher."""

    def arguments(out, *more):
        return ("distill", "--out", out, "--student.name", "resnet8x0.5", "--teacher.weights", teacher, *SMALL, *more)

    return arguments


@pytest.fixture(scope="session")
def train():
    """The arguments of a small ``dlkd train``."""

    def arguments(out, *more):
        return ("train", "--out", out, "--model.name", "resnet8x0.5", *SMALL, *more)

    return arguments


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """40 PNG files of two classes in ``zero`` and ``one``, 32 pixels a side; copy it to change it."""
    root = tmp_path_factory.mktemp("shared") / "photos"
    digits = load_digits()
    for label, name in enumerate(("zero", "one")):
        (root / name).mkdir(parents=True)
        for k, image in enumerate(digits.images[digits.target == label][:20]):
            Image.fromarray(np.uint8(image * 255 / 16)).resize((32, 32)).save(root / name / f"{k:02d}.png")
    return root


@pytest.fixture(scope="session")
def weights():
    """The tensors of the student in a run folder."""
    return lambda run: load_file(run / "student.safetensors")


@pytest.fixture(scope="session")
def same(weights):
    """Do two runs have the same student to the last bit?"""

    def compare(a, b):
        one, other = weights(a), weights(b)
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    return compare


@pytest.fixture(scope="session")
def as_if_trained():
    """Give a model the statistics and scales of a trained one, so that a norm that vanished would be noticed."""

    def fill(model):
        generator = torch.Generator().manual_seed(1)
        for m in model.modules():
            if isinstance(m, _BatchNorm):
                m.running_mean.uniform_(-0.5, 0.5, generator=generator)
                m.running_var.uniform_(0.5, 2, generator=generator)
                nn.init.uniform_(m.weight, 0.5, 1.5, generator=generator)
                nn.init.uniform_(m.bias, -0.5, 0.5, generator=generator)
        return model.eval()

    return fill


@pytest.fixture(scope="session")
def table():
    """The rows of a CSV file, numbers as numbers."""

    def number(text):
        try:
            return float(text)
        except ValueError:
            return text

    def read(path):
        with path.open(newline="") as file:
            return [{name: number(value) for name, value in row.items()} for row in csv.DictReader(file)]

    return read


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Write a module that somebody might bring, importable while the test runs."""
    made = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        made.append(name)

    yield write
    for name in made:
        sys.modules.pop(name, None)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """A real browser without a window; skipped where there is none, but in the gate.

    It ends with its module: the event loop of playwright would be in the way of other tests' own.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    if program is None:
        missing(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Open a file or the address of a server as a new user; in the end nothing but what was expected failed, and every
    request went to where the page came from."""
    contexts, requests, problems, allowed, places = [], [], [], [], []

    def opened(place, expected="", before="", **options):
        context = browser.new_context(**options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        if before:
            context.add_init_script(before)
        allowed.extend([expected] if expected else [])
        url = place.as_uri() if isinstance(place, Path) else place
        places.append("file:" if url.startswith("file:") else "/".join(url.split("/")[:3]) + "/")
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: line.type == "error" and problems.append(line.text))
        page.goto(url)
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in problems if not any(words in line for words in allowed)] == []
    assert all(any(words in line for line in problems) for words in allowed)
    assert requests and all(url.startswith((*places, "data:", "blob:")) for url in requests), requests
