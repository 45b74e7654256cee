import signal

import pytest

from dlkd.train.interrupt import Interrupted, StopRequest, Terminated, terminated_by_exception


def test_a_signal_that_came_too_late_is_passed_on():
    """As in the last step of a run, of which a comparison has others to come."""
    reached = False
    with pytest.raises(Terminated), terminated_by_exception():
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            reached = bool(stop)
    assert reached


@pytest.fixture
def at_a_terminal():
    """Ctrl-C raises, as it does there; of a process in the background it may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("at_a_terminal")
def test_a_second_block_is_not_begun():
    begun = 0
    with pytest.raises(KeyboardInterrupt):
        for _ in range(2):
            with StopRequest():
                begun += 1
                signal.raise_signal(signal.SIGINT)
    assert begun == 1


def test_a_signal_that_was_obeyed_is_not():
    with pytest.raises(Interrupted), terminated_by_exception(), StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop
        raise Interrupted


def test_without_a_signal_the_handlers_are_as_before():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop and signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
