"""From level to temperature: the formula, its ends and both directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd import DifficultyTemperature


@settings(deadline=None, max_examples=60)
@given(st.floats(0.1, 20), st.floats(0.1, 20), st.floats(0.1, 5))
def test_formula_ends_and_direction(easy, hard, gamma):
    level = torch.linspace(0, 1, 21, dtype=torch.float64)
    t = DifficultyTemperature(easy, hard, gamma)(level)
    expected = [easy + (hard - easy) * (k / 20) ** gamma for k in range(21)]
    torch.testing.assert_close(t, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert t[0] == easy and t[-1].item() == pytest.approx(hard)
    assert (t.diff() * (hard - easy) >= -1e-12).all()
    assert t.min() > 0


def test_equal_ends_are_that_float_whatever_the_level():
    t = DifficultyTemperature(3.3, 3.3, 0.7)(torch.rand(100, dtype=torch.float64))
    assert (t == 3.3).all()


def test_settings_can_be_read_off():
    assert repr(DifficultyTemperature(1, 5, 2)) == "DifficultyTemperature(t_easy=1.0, t_hard=5.0, gamma=2.0)"


@pytest.mark.parametrize("name", ["t_easy", "t_hard", "gamma"])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_settings(name, bad):
    with pytest.raises(ValueError, match=f"expected {name} to be positive"):
        DifficultyTemperature(**{name: bad})
