"""Pages of options become typed ones as the command line's do, and what is wrong is told in the same words."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import pytest
import yaml
from jsonargparse import ArgumentParser

from dlkd.errors import UserError
from dlkd.jobs.card import plain
from dlkd.pages.explain import known_options
from dlkd.pages.merge import nested
from dlkd.pages.typed import TypedOptions, instantiate, typed
from dlkd.train.options import DistillOptions


@dataclass(frozen=True)
class Inner:
    """A group.

    Attributes:
        share: of something.
        kind: one of two.
    """

    share: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    """Options with a group.

    Attributes:
        out: a folder.
        count: how many.
        several: one or more.
        inner: a group.
    """

    out: Path = Path("x")
    count: int | None = None
    several: list[float] | float = 1.0
    inner: Inner = field(default_factory=Inner)


READ, READ_RUN = TypedOptions(Outer), TypedOptions(DistillOptions)


def test_values_have_the_kinds_of_their_options():
    found = READ({"out": "a/b", "count": 3, "several": [1, 2.5], "inner": {"share": 1}})
    assert found == Outer(Path("a/b"), 3, [1.0, 2.5], Inner(1.0, "a"))
    assert isinstance(found.out, Path) and isinstance(found.inner, Inner) and type(found.inner.share) is float
    assert READ({}) == Outer() and READ({"count": None}) == Outer()


def test_one_page_leaves_nothing_to_the_next():
    READ({"count": 7, "inner": {"kind": "b"}})
    page = {"inner": {"share": 0.1}}
    assert READ(page) == Outer(inner=Inner(0.1)) and page == {"inner": {"share": 0.1}}
    with pytest.raises(UserError):
        READ({"count": "many"})
    assert READ({}) == Outer()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"count": "many"}, "expected --count to be a whole number or null, but got many"),
        ({"count": 1.5}, "expected --count to be a whole number or null, but got 1.5"),
        ({"inner": {"kind": "c"}}, "expected --inner.kind to be one of a, b, but got c"),
        ({"inner": {"share": [1]}}, "expected --inner.share to be a number"),
        ({"inner": 3}, "inner"),
        (
            {"inner": None},
            "expected --inner to be a group of options, but got nothing; give a value, or leave inner out",
        ),
        ({"inner": {"share": None}}, "expected --inner.share to be a number, but got nothing"),
        ({"out": None}, "expected --out to be a path, but got nothing"),
        ({"several": None}, "expected --several to be a list, each a number or a number, but got nothing"),
        ({"counts": 3}, "there is no option --counts; did you mean --count?"),
        ({"inner": {"shared": 3}}, "there is no option --inner.shared; did you mean --inner.share?"),
        ({"out": {"a": 1}}, "--out"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(page, words):
    with pytest.raises(UserError) as told:
        READ(page)
    assert words in str(told.value) and "\n" not in str(told.value)


def test_nothing_behind_an_option():
    """Is an option that may be null, or is told; of every option of ``dlkd distill``, which the parser lets pass."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DistillOptions)
    parsed, told = parser.parse_object({}), 0
    for name, hint in known_options(DistillOptions).items():
        before, parsed[name] = parsed[name], None
        if type(None) in get_args(hint):
            instantiate(DistillOptions, parsed)
        else:
            with pytest.raises(UserError, match=f"--{re.escape(name)} to be .*nothing"):
                instantiate(DistillOptions, parsed)
            told += 1
        parsed[name] = before
    assert told > 60


@pytest.mark.parametrize(
    "name", ["epochs", "seed", "method", "out", "data", "data.name", "optim.lr", "optim.milestones"]
)
def test_nothing_behind_an_option_of_a_page(name):
    with pytest.raises(UserError, match=f"--{re.escape(name)} to be .*(nothing|None)"):
        READ_RUN(nested({name: None}))


def test_a_page_of_every_option_is_what_it_was():
    """As ``config.yaml`` of a run, and as the command line gives them."""
    options = DistillOptions(epochs=7, method="kd")
    options = replace(options, loss=replace(options.loss, temperature=2.0), data=replace(options.data, noise=0.25))
    options = replace(options, teacher=replace(options.teacher, weights=[Path("a"), Path("b")], name=["x", None]))
    page = yaml.safe_load(yaml.safe_dump(plain(options)))
    assert READ_RUN(page) == options


def test_the_same_as_from_the_command_line(dlkd, tmp_path):
    """Of values that YAML could take for several kinds."""
    dotted = {
        **{"optim.lr": 1, "optim.milestones": [0.5, 0.75], "probe.sparsity": "auto", "data.per_class": 30},
        **{"engine.report": False, "student.weights": "w", "optim.clip": None, "storage.top_k": 5, "store": "here"},
    }
    arguments = [word for name, value in dotted.items() for word in (f"--{name}", "null" if value is None else value)]
    done = dlkd("distill", *arguments, "--print_config")
    assert done.status == 0, done.err
    read = READ_RUN
    assert read(nested(yaml.safe_load(done.out))) == read(nested(dotted)) != DistillOptions()


def test_pages_without_groups():
    assert typed(Inner, {"share": 2}) == Inner(2.0)
    with pytest.raises(TypeError, match="expected a group of options, but found list"):
        typed(Inner, [])
    with pytest.raises(Exception, match="kind"):
        typed(Inner, {"kind": "c"})


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"epochs": 10**30}, "--epochs to be at most 1,000,000,000, but got one above 10^30"),
        ({"epochs": 10**400}, "--epochs"),
        ({"engine": {"threads": 2000}}, "--engine.threads to be at most 1,024, but got 2,000"),
        ({"views": {"pad": 10**6}}, "--views.pad to be at most 4,096"),
        ({"probe": {"masks": 10**6}}, "--probe.masks to be at most 1,024"),
        ({"optim": {"weight_decay": 1e308}}, "--optim.weight_decay to be at most 1e+30"),
        ({"optim": {"milestones": [0.5, 1e300]}}, "--optim.milestones to be at most 1e+30"),
        ({"data": {"folds": -(10**30)}}, "--data.folds to be at most"),
    ],
)
def test_numbers_that_nobody_means(page, words):
    with pytest.raises(UserError, match=re.escape(words)):
        READ_RUN(page)


def test_a_seed_may_be_any():
    assert READ_RUN({"seed": 2**62}).seed == 2**62
