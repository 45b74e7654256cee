"""A small comparison on digits: two conditions, three methods, two seeds, from the shared teacher."""

import json
import shutil
from pathlib import Path

import pytest
import refusals

METHODS = "{ce: , kd-2: {method: kd, loss: {temperature: 2}}, dlkd: }"
CONDITIONS = "{clean: , noisy: {data.noise: 0.4}}"
RUN = {
    "student.name": "resnet8x0.5",
    "data.per_class": 30,
    "data.held_out": 0.2,
    "epochs": 2,
    "device": "cpu",
    "engine.threads": 1,
    "engine.checkpoint_every": 2,
    "optim.lr": 0.1,
    "optim.schedule": "one_cycle",
    "optim.batch_size": 16,
}


@pytest.fixture(scope="session")
def small(teacher):
    """The arguments of a ``dlkd compare`` whose cells take half a second; methods are ``ce`` alone unless given."""

    def arguments(out, *more, methods="[ce]"):
        shared = [word for name, value in RUN.items() for word in (f"--run.{name}", value)]
        return ("compare", "--out", out, "--run.teacher.weights", teacher, *shared, "--methods", methods, *more)

    return arguments


@pytest.fixture(scope="session")
def study(small):
    """The arguments of the comparison that these tests share, in another folder."""

    def arguments(out, *more):
        what = ("--conditions", CONDITIONS, "--seeds", "[0, 3]", "--baseline", "kd-2")
        return small(out, *what, *more, methods=METHODS)

    return arguments


@pytest.fixture(scope="session")
def left_alone(tmp_path_factory, good, study):
    """The folder of that comparison, made by one process that nobody disturbed, and what it said."""
    out = tmp_path_factory.mktemp("compare") / "left-alone"
    return out, good(*study(out))


@pytest.fixture
def copied(left_alone, tmp_path):
    """A copy of it to change."""
    return Path(shutil.copytree(left_alone[0], tmp_path / "copied"))


@pytest.fixture(scope="session")
def read():
    """A JSON file."""
    return lambda path: json.loads(path.read_text())


@pytest.fixture(scope="session")
def refused():
    """The command said so in one line, with these words in it."""
    return refusals.refused
