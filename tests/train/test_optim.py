"""The rate equals torch's schedulers at every step; bad options are refused by name."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR

from dlkd.errors import UserError
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions, decay_groups, learning_rate, make_optimizer, set_learning_rate


def ours(options, total, per_epoch=10):
    return [learning_rate(options, step, total, per_epoch) for step in range(total)]


def torchs(make, lr, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    return rates


@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 100, 1501])
def test_equals_torch(total):
    lr = 0.3
    cosine = torchs(lambda o: CosineAnnealingLR(o, T_max=total), lr, total)
    assert ours(OptimOptions(lr=lr), total) == pytest.approx(cosine, rel=1e-8, abs=1e-12)
    cycle = torchs(lambda o: OneCycleLR(o, lr, total_steps=total, cycle_momentum=False), lr, total)
    assert ours(OptimOptions(lr=lr, schedule="one_cycle"), total) == pytest.approx(cycle, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("total", "milestones"), [(8, [5, 6, 7]), (240, [150, 180, 210]), (1000, [625, 750, 875])])
def test_step_equals_torch(total, milestones):
    expected = torchs(lambda o: MultiStepLR(o, milestones, gamma=0.2), 0.05, total)
    assert ours(OptimOptions(schedule="step", decay=0.2), total) == pytest.approx(expected, rel=1e-12)


def test_constant():
    assert ours(OptimOptions(schedule="constant", lr=0.2), 5) == [0.2] * 5


def test_warm_up_then_the_schedule_over_what_is_left():
    rates = ours(OptimOptions(lr=0.4, warmup_epochs=0.4), 20)
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * t / 16)) for t in range(16)])
    step = ours(OptimOptions(schedule="step", milestones=(0.5,), warmup_epochs=0.4), 20)
    assert step[9] == 0.05 and step[10] == pytest.approx(0.005)  # milestones are shares of the whole run
    assert ours(OptimOptions(lr=1.0, warmup_epochs=9), 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("step", [-1, 10, 11])
def test_step_outside_the_run(step):
    with pytest.raises(ValueError, match=f"but got {step}"):
        learning_rate(OptimOptions(), step, 10, 5)


def test_vectors_have_no_decay_and_each_parameter_is_there_once():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    model[2].bias.requires_grad_(False)
    extra = torch.nn.Linear(3, 3)
    groups = decay_groups(model, 0.1, [*extra.parameters(), model[0].weight])
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in (model[0].weight, model[2].weight, extra.weight)]
    assert [id(p) for p in groups[1]["params"]] == [
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, extra.bias)
    ]


def test_all_parameters_decay_where_asked():
    """As in mdistiller, whose SGD is given all learnable parameters with one weight decay."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    sgd = make_optimizer(model, OptimOptions(weight_decay=0.1, decay_of="all"))
    assert [group["weight_decay"] for group in sgd.param_groups] == [0.1, 0.1]
    published = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    start = [p.detach().clone() for p in model.parameters()]
    after = []
    for optimizer in (sgd, published):
        with torch.no_grad():
            for p, s in zip(model.parameters(), start, strict=True):
                p.copy_(s).grad = torch.full_like(p, 0.5)
        optimizer.step()
        after.append([p.detach().clone() for p in model.parameters()])
    for ours_, theirs in zip(*after, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=0)


def test_optimizers():
    model, extra = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    sgd = make_optimizer(model, OptimOptions(momentum=0.8, nesterov=True, weight_decay=0.1), extra.parameters())
    assert type(sgd) is torch.optim.SGD
    assert [(g["lr"], g["momentum"], g["nesterov"], g["weight_decay"]) for g in sgd.param_groups] == [
        (0.05, 0.8, True, 0.1),
        (0.05, 0.8, True, 0.0),
    ]
    assert sum(len(g["params"]) for g in sgd.param_groups) == 4
    adamw = make_optimizer(model, OptimOptions(optimizer="adamw", lr=0.01, weight_decay=0.2))
    assert type(adamw) is torch.optim.AdamW
    assert [(g["lr"], g["weight_decay"]) for g in adamw.param_groups] == [(0.01, 0.2), (0.01, 0.0)]
    set_learning_rate(adamw, 0.5)
    assert [g["lr"] for g in adamw.param_groups] == [0.5, 0.5]
    fused = make_optimizer(model, OptimOptions(), fused=True)
    assert [g["fused"] for g in fused.param_groups] == [True, True]
    assert [g["fused"] for g in sgd.param_groups] == [None, None]
    with pytest.raises(UserError, match="trainable"):
        make_optimizer(model.requires_grad_(False), OptimOptions())
    with pytest.raises(UserError, match="lr"):
        make_optimizer(extra, OptimOptions(lr=-1.0))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_kernel_takes_the_same_steps(optimizer):
    start = torch.nn.Linear(5, 3).double()
    after = []
    for fused in (False, True):
        model = copy.deepcopy(start)
        options = OptimOptions(optimizer=optimizer, nesterov=optimizer == "sgd", weight_decay=0.1)
        it = make_optimizer(model, options, fused=fused)
        for k in range(3):
            model.zero_grad()
            (model(torch.arange(10.0, dtype=torch.float64).view(2, 5) + k) ** 2).mean().backward()
            it.step()
        after.append([p.detach() for p in model.parameters()])
    assert (after[0][0] - start.weight).abs().min() > 1e-3
    torch.testing.assert_close(after[1], after[0], rtol=1e-12, atol=1e-12)


def test_which_runs_take_a_step_in_one_kernel():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not EngineOptions().uses_fused(cpu)
    assert EngineOptions().uses_fused(cuda)
    assert EngineOptions(precision="bf16").uses_fused(cuda)
    assert not EngineOptions(precision="fp16").uses_fused(cuda)
    assert EngineOptions(fused=True).uses_fused(cpu)
    assert not EngineOptions(fused=False).uses_fused(cuda)
    with pytest.raises(UserError, match=r"engine\.fused"):
        EngineOptions(precision="fp16", fused=True).check()


BAD = {
    "optimizer": ["adam"],
    "lr": [0.0, -1.0, math.nan, math.inf],
    "momentum": [1.0, -0.1, math.nan],
    "weight_decay": [-1e-9, math.nan],
    "schedule": ["linear"],
    "milestones": [(0.5, 0.5), (0.7, 0.3), (0.0, 0.5), (0.5, 1.0), (math.nan,)],
    "decay": [0.0, 1.1],
    "warmup_epochs": [-1.0, math.inf],
    "batch_size": [0],
    "accumulate": [0],
    "clip": [0.0, math.nan],
    "ema": [0.0, 1.0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_value_is_refused_by_name(name, value):
    options = dataclasses.replace(OptimOptions(), **{name: value})
    with pytest.raises(UserError) as caught:
        options.check()
    message = str(caught.value)
    assert (
        message.startswith(f"expected --optim.{name} to be ") and f"but got {value}" in message and "\n" not in message
    )


def test_bad_pairs_and_several_bad_values_in_one_line():
    for bad in (
        OptimOptions(nesterov=True, momentum=0.0),
        OptimOptions(optimizer="adamw", nesterov=True),
        OptimOptions(schedule="one_cycle", warmup_epochs=1),
    ):
        with pytest.raises(UserError, match=r"nesterov|one_cycle"):
            bad.check()
    with pytest.raises(UserError) as caught:
        OptimOptions(lr=0, batch_size=0).check()
    assert [part.split()[1] for part in str(caught.value).split("; ")] == ["--optim.lr", "--optim.batch_size"]


def test_good_options_pass_and_each_is_documented():
    OptimOptions().check()
    OptimOptions("adamw", 1e-3, schedule="step", milestones=(), decay=1.0, clip=1.0, ema=0.999).check()
    for field in dataclasses.fields(OptimOptions):
        assert f"        {field.name}: " in OptimOptions.__doc__
