"""benchmarks/variants.py: where the levels say nothing, each variant is the method that it departs from."""

import sys
from pathlib import Path

import pytest
import torch

from dlkd.methods import LossOptions, Signals, make_method

FLAT = {"t_easy": 3.0, "t_hard": 3.0}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield
    sys.modules.pop("variants", None)


def signals(level, soft=False):
    draw = torch.Generator().manual_seed(0)
    student, teacher, probe = torch.randn(3, 16, 7, dtype=torch.float64, generator=draw)
    target = torch.randint(7, (16,), generator=draw)
    if soft:
        target = torch.softmax(torch.randn(16, 7, dtype=torch.float64, generator=draw), dim=1)
    return Signals(student, teacher, target, level, probe)


def total(name, x, **options):
    return make_method(name, LossOptions(**options)).parts(x).total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "control", "its"),
    [
        ("dlkd+variants:MIX", {**FLAT, "share": 1.0}, "kd", {"temperature": 3.0}),
        ("dlkd+variants:PARTS", FLAT, "dkd", {"temperature": 3.0, "warmup_epochs": 1.0}),
        ("dlkd+variants:PARTS_OF_EASY", FLAT, "dkd", {"temperature": 3.0, "warmup_epochs": 1.0}),
        ("dlkd+variants:ROWS", FLAT, "dist", {"temperature": 3.0}),
        ("variants:OTHERS", FLAT, "kd", {"temperature": 3.0}),
        ("variants:WIDENING", FLAT, "kd", {"temperature": 3.0}),
    ],
)
def test_without_difficulty_it_is_its_control(name, options, control, its, soft):
    x = signals(torch.full((16,), 0.5, dtype=torch.float64), soft)
    torch.testing.assert_close(total(name, x, **options), total(control, x, **its), rtol=1e-10, atol=0)


def test_the_mixture_is_that_of_the_probe_where_all_is_hard():
    x = signals(torch.ones(16, dtype=torch.float64))
    towards = x._replace(teacher_logits=0.4 * x.teacher_logits + 0.6 * x.probe_logits)
    found = total("dlkd+variants:MIX", x, **FLAT, share=0.7)
    torch.testing.assert_close(found, total("kd", towards, temperature=3.0), rtol=1e-10, atol=0)


def test_the_label_keeps_its_temperature():
    x = signals(torch.rand(16, dtype=torch.float64))
    rule = make_method("variants:OTHERS", LossOptions(t_easy=2.0, t_hard=8.0)).temperature
    t = rule(x).student
    at_label = torch.zeros(16, 7, dtype=torch.bool).scatter(1, x.target.unsqueeze(1), True)
    torch.testing.assert_close(t[at_label], torch.full((16,), 4.0, dtype=torch.float64))
    others = (2 + 6 * x.level).unsqueeze(1).expand(16, 7)
    torch.testing.assert_close(t[~at_label], others[~at_label])


def test_temperatures_part_over_ten_epochs():
    x = signals(torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(8))
    method = make_method("variants:WIDENING", LossOptions(t_easy=2.0, t_hard=8.0))
    for epoch, ends in ((0, (4 * 0.5**0.1, 4 * 2**0.1)), (9, (2.0, 8.0)), (12, (2.0, 8.0))):
        method.start_epoch(epoch)
        found = method.parts(x).temperature[:2]
        torch.testing.assert_close(found, torch.tensor(ends, dtype=torch.float64))
