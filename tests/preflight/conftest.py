"""A trained teacher, and one look at a run of it."""

import dataclasses

import pytest

from dlkd import DataOptions, DistillOptions, ModelOptions, TeacherOptions, TrainOptions, run
from dlkd.preflight import preflight
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions
from dlkd.train.setup import make_session

DATA = DataOptions("digits", held_out=0.2)
ENGINE = EngineOptions(threads=1, tensorboard=False, report=False)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("preflight") / "teacher"
    options = TrainOptions(
        out=out,
        data=DATA,
        epochs=5,
        device="cpu",
        model=ModelOptions("resnet8"),
        optim=OptimOptions(lr=0.1, nesterov=True, schedule="one_cycle"),
        engine=ENGINE,
    )
    assert run(options, quiet=True)["held_out"]["accuracy"] > 85
    return out


@pytest.fixture
def options(teacher):
    """The options of a run on the digits; ``data`` are changes to its data options."""
    base = DistillOptions(
        out=teacher.parent / "never-written",
        device="cpu",
        data=DATA,
        epochs=1,
        engine=ENGINE,
        student=ModelOptions("resnet8x0.5"),
        teacher=TeacherOptions(weights=teacher),
    )

    def make(data=(), **given):
        return dataclasses.replace(base, data=dataclasses.replace(DATA, **dict(data)), **given)

    return make


@pytest.fixture
def look(options):
    """The preflight of such a run, and its session."""

    def make(**given):
        session = make_session(options(**given), quiet=True)
        return preflight(session), session

    return make
