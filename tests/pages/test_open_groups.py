"""Values of pages of options, as the command line gives them one by one."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.errors import UserError
from dlkd.pages.merge import nested
from dlkd.pages.open_groups import open_groups, taken_out, with_values

RUN = {"run": False}
GROUPS = {"run": False, "methods": True}


def test_taken_out_by_hand():
    arguments = ["compare", "--run.data.root", "DATA", "--out", "x", "--run.epochs=3", "--run", "{lr: 1}"]
    arguments += ["--running.x", "1", "--methods.kd.loss.temperature", "2.5", "--run.tags", "[a, b]", "run.epochs"]
    rest, found = taken_out(arguments, GROUPS)
    assert rest == ["compare", "--out", "x", "--run", "{lr: 1}", "--running.x", "1", "run.epochs"]
    assert found == {
        "run": {"data": {"root": "DATA"}, "epochs": 3, "tags": ["a", "b"]},
        "methods": {"kd": {"loss": {"temperature": 2.5}}},
    }
    assert taken_out(arguments, {}) == (arguments, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("null", None), ("0.4", 0.4), ("1e-3", "1e-3"), ("{a.b: 1}", {"a": {"b": 1}}), ("", None)],
)
def test_values_are_those_of_yaml(text, value):
    """Also where they begin with dashes or hold another equals sign."""
    assert taken_out([f"--run.x={text}"], RUN) == taken_out(["--run.x", text], RUN) == ([], {"run": {"x": value}})


def test_values_that_look_like_options():
    assert taken_out(["--run.x", "-1"], RUN)[1] == {"run": {"x": -1}}
    assert taken_out(["--run.x=a=b"], RUN)[1] == {"run": {"x": "a=b"}}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["run.a", "run.b.c", "run.b.d"]), st.integers(0, 9)), max_size=6))
def test_the_later_of_two_arguments_counts(given_values):
    arguments = list(itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in given_values))
    rest, found = taken_out(["--other", *arguments, "end"], RUN)
    assert rest == ["--other", "end"] and found == nested(dict(given_values))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run.x"], "a value after --run.x, but got none"),
        (["--run.x", "[1"], "--run.x to be a value of YAML, but got '\\[1'"),
        (["--run.x=*nobody"], "--run.x to be a value of YAML"),
        (["--run.x=!!python/object:os.system {}"], "--run.x to be a value of YAML"),
        (["--run.x=2024-13-41"], "--run.x to be a value of YAML"),
        (["--run.x=" + "[" * 2000], "--run.x to be a value of YAML"),
        (["--run.x={lr: 1, lr: 2}"], "'lr' stands twice in the same group"),
    ],
)
def test_values_that_are_none(arguments, words):
    with pytest.raises(UserError, match=words.replace("--", "(?:--)")):
        taken_out(arguments, RUN)


def test_a_page_written_out_is_taken_out_again():
    """Every value of a page as one argument."""
    page = {"data": {"root": "a b", "noise": 0.4}, "epochs": 3, "optim": {"milestones": [0.5, 0.7]}, "store": None}
    flat = {f"{group}.{name}": of for group in ("data", "optim") for name, of in page[group].items()}
    flat |= {"epochs": 3, "store": None}
    arguments = [f"--run.{name}={yaml.safe_dump(value)}" for name, value in flat.items()]
    assert taken_out(arguments, RUN) == ([], {"run": page})


@pytest.mark.parametrize(
    ("argument", "page"),
    [
        ("--methods.kd-0.5.loss.temperature=2", {"kd-0.5": {"loss": {"temperature": 2}}}),
        ("--methods.kd-0.5.method=kd", {"kd-0.5": {"method": "kd"}}),
        ("--methods.method.loss={kd_weight: 3}", {"method": {"loss": {"kd_weight": 3}}}),
        ("--methods.kd-0.5={method: kd, loss.kd_weight: 3}", {"kd-0.5": {"method": "kd", "loss": {"kd_weight": 3}}}),
        ("--methods.kd-0.5.loss.kd-weight=3", {"kd-0.5": {"loss": {"kd_weight": 3}}}),
        ("--methods.kd-2.los.temperature=2", {"kd-2": {"los": {"temperature": 2}}}),  # and then no run takes it
        ("--methods.kd=3", {"kd": 3}),
    ],
)
def test_names_of_the_users_own_end_before_an_option(argument, page):
    assert taken_out([argument], GROUPS, {"method", "loss", "optim"}) == ([], {"methods": page})


def test_dashes_are_underscores_in_options_within():
    assert taken_out(["--run.optim.batch-size", "2-3"], RUN) == ([], {"run": {"optim": {"batch_size": "2-3"}}})


@dataclass(frozen=True)
class Study:
    """One page and several."""

    run: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, dict[str, Any] | None] | list[str] = field(default_factory=list)
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: list[str] | None = None
    out: str = "x"


def test_which_groups_are_open():
    assert open_groups(Study) == {"run": False, "methods": True, "space": True}


def test_values_win_over_pages():
    study = Study(
        {"data.root": "a", "epochs": 1}, {"kd-0.5": {"loss.temperature": 0.5, "loss.kd_weight": 1}, "ce": None}
    )
    found = with_values(
        study, {"run": {"epochs": 2}, "methods": {"kd-0.5": {"loss": {"temperature": 1}}, "ce": {"seed": 1}}}
    )
    assert found.run == {"data": {"root": "a"}, "epochs": 2}
    assert found.methods == {"kd-0.5": {"loss": {"temperature": 1, "kd_weight": 1}}, "ce": {"seed": 1}}
    listed = with_values(Study(methods=["kd", "ce"]), {"methods": {"kd": {"epochs": 3}}})
    assert listed.methods == {"kd": {"epochs": 3}, "ce": None} and with_values(study, {}) is study
