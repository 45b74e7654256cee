"""Pages of options joined and unfolded, against rules on flat names."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.pages.merge import merged, nested

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
