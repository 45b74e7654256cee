"""What may have happened to a file on its way from a stranger."""

import contextlib
import signal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 60


def fuzz(examples):
    """So many examples, the same in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextlib.contextmanager
def in_time():
    """Whatever the block reads, it ends."""

    def stop(*_):
        raise TimeoutError(f"not through after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def mutated(draw, whole, pieces=()):
    """``whole`` with a few bytes flipped, cut, put in or written twice; or bytes that were never it.

    Args:
        whole: bytes of a sound file.
        pieces: what else may be put in.
    """
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    found = bytearray(whole)
    piece = st.one_of(st.binary(min_size=1, max_size=9), *([st.sampled_from(pieces)] if pieces else []))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.sampled_from(("flip", "flip", "cut", "insert", "insert", "double", "remove", "overwrite"))):
            case "flip" if found:
                found[at] ^= draw(st.integers(1, 255))
            case "cut":
                del found[at:]
            case "insert":
                found[at:at] = draw(piece)
            case "double":
                found[at:at] = found[at : at + draw(st.integers(1, 64))]
            case "remove":
                del found[at : at + draw(st.integers(1, 64))]
            case "overwrite":
                new = draw(piece)
                found[at : at + len(new)] = new
    return bytes(found)


HUGE = st.sampled_from([10**400, -1, 0, 2**31, 2**63, 10**18, float("inf"), float("nan"), 1e308, -0.0])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), HUGE, st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def changed(draw, values):
    """A JSON object with one of its values replaced, left out, or one more, at any depth."""
    found = dict(values)
    name = draw(st.sampled_from(sorted(found)))
    if isinstance(found[name], dict) and found[name] and draw(st.booleans()):
        found[name] = draw(changed(found[name]))
        return found
    match draw(st.sampled_from(("replace", "replace", "replace", "leave out", "add"))):
        case "replace":
            found[name] = draw(JSON)
        case "leave out":
            del found[name]
        case "add":
            found[draw(st.text(max_size=5))] = draw(JSON)
    return found
