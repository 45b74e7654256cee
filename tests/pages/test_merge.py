"""Pages of options joined, unfolded, and taken out of a command line, against rules on flat names."""

import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.errors import UserError
from dlkd.pages.merge import merged, nested, taken_out

names = st.text("abc", min_size=1, max_size=2)
values = st.one_of(st.integers(-3, 3), st.none(), st.lists(st.integers(0, 3), max_size=2))
pages = st.recursive(
    st.dictionaries(names, values, max_size=3), lambda inner: st.dictionaries(names, inner | values, max_size=3)
)


def leaves(page, prefix=()):
    """Every value by the names of the groups around it."""
    for name, value in page.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def at(page, path):
    for name in path:
        page = page[name]
    return page


def test_merged_by_hand():
    old = {"data": {"root": "a", "noise": 0.4}, "epochs": 3, "tags": [1, 2]}
    new = {"data": {"noise": 0.0, "seed": 1}, "tags": [3], "method": None}
    found = merged(old, new)
    assert found == {
        **{"data": {"root": "a", "noise": 0.0, "seed": 1}, "epochs": 3},
        **{"tags": [3], "method": None},
    }
    assert list(found) == ["data", "epochs", "tags", "method"]  # in the order of their first mention
    assert old["data"] == {"root": "a", "noise": 0.4} and merged() == {}
    # Of a value and a group the later counts, whichever it is.
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}} and merged({"a": {"b": 2}}, {"a": 1}) == {"a": 1}


@settings(deadline=None, max_examples=80)
@given(pages, pages, pages)
def test_of_several_pages_the_last_word_counts(a, b, c):
    found = merged(a, b, c)
    assert found == merged(merged(a, b), c) and merged(a, a) == a and merged(a, {}) == merged({}, a) == a
    for path, value in leaves(c):
        if value != {}:
            assert at(found, path) == value
    assert set(found) == {*a, *b, *c}


@settings(deadline=None, max_examples=80)
@given(pages)
def test_nested_undoes_dotted_names(page):
    flat = {".".join(path): value for path, value in leaves(page)}
    assert nested(flat) == page == nested(page)


def test_nested_by_hand():
    assert nested({"a.b.c": 1, "a": {"b.d": 2}, "a.b": {"e": 3}}) == {"a": {"b": {"c": 1, "d": 2, "e": 3}}}
    assert nested({3: {4: "x"}}) == {"3": {"4": "x"}}  # as YAML reads keys that are numbers
    assert nested({"a": {"b": 1}, "a.b": 2}) == {"a": {"b": 2}} and nested({"a.b": 1, "a": None}) == {"a": None}


def test_taken_out_by_hand():
    arguments = ["compare", "--run.data.root", "DATA", "--out", "x", "--run.epochs=3", "--run", "{lr: 1}"]
    arguments += ["--running.x", "1", "--methods.kd.loss.temperature", "2.5", "--run.tags", "[a, b]", "run.epochs"]
    rest, found = taken_out(arguments, {"run", "methods"})
    assert rest == ["compare", "--out", "x", "--run", "{lr: 1}", "--running.x", "1", "run.epochs"]
    assert found == {
        "run": {"data": {"root": "DATA"}, "epochs": 3, "tags": ["a", "b"]},
        "methods": {"kd": {"loss": {"temperature": 2.5}}},
    }
    assert taken_out(arguments, ()) == (arguments, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("null", None), ("0.4", 0.4), ("1e-3", "1e-3"), ("{a.b: 1}", {"a": {"b": 1}}), ("", None)],
)
def test_values_are_those_of_yaml(text, value):
    """Also where they begin with dashes or hold another equals sign."""
    assert (
        taken_out([f"--run.x={text}"], {"run"}) == taken_out(["--run.x", text], {"run"}) == ([], {"run": {"x": value}})
    )


def test_values_that_look_like_options():
    assert taken_out(["--run.x", "-1"], {"run"})[1] == {"run": {"x": -1}}
    assert taken_out(["--run.x=a=b"], {"run"})[1] == {"run": {"x": "a=b"}}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["run.a", "run.b.c", "run.b.d"]), st.integers(0, 9)), max_size=6))
def test_the_later_of_two_arguments_counts(given_values):
    arguments = list(itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in given_values))
    rest, found = taken_out(["--other", *arguments, "end"], ["run"])
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
    ],
)
def test_values_that_are_none(arguments, words):
    with pytest.raises(UserError, match=words.replace("--", "(?:--)")):
        taken_out(arguments, {"run"})


def test_a_page_written_out_is_taken_out_again():
    """Every value of a page as one argument."""
    page = {"data": {"root": "a b", "noise": 0.4}, "epochs": 3, "optim": {"milestones": [0.5, 0.7]}, "store": None}
    arguments = [f"--run.{'.'.join(path)}={yaml.safe_dump(value)}" for path, value in leaves(page)]
    assert taken_out(arguments, ["run"]) == ([], {"run": page})
