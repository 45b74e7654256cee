"""The average equals its closed form in float64, survives a save, and suits the model it came from."""

import io

import pytest
import torch

from dlkd.train.ema import WeightAverage


def closed_form(values, decay):
    """average_n = Σ_i (1 − d_i) · Π_{j > i} d_j · value_i, the start having weight Π d_j."""
    n = len(values) - 1
    rates = [min(decay, (1 + t) / (10 + t)) for t in range(n)]
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for i, value in enumerate(values):
        share = 1.0 if i == 0 else 1 - rates[i - 1]
        for rate in rates[i:]:
            share *= rate
        total += share * value.double()
    return total


def run(decay, steps, dtype=torch.float32):
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).to(dtype)
    average = WeightAverage(model, decay)
    seen = [{name: value.clone() for name, value in model.state_dict().items()}]
    for _ in range(steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 3, dtype=dtype))
        average.update(model)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
    return model, average, seen


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9999])
@pytest.mark.parametrize("steps", [0, 1, 2, 40])
def test_equals_closed_form(decay, steps):
    _, average, seen = run(decay, steps)
    weights = average.weights()
    assert weights.keys() == seen[0].keys() and average.updates == steps
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64 and value == steps
        else:
            expected = closed_form([values[name] for values in seen], decay)
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_tensors_together_are_tensors_one_by_one(dtype):
    """To the last bit: of runs whose figures are kept."""
    _, average, seen = run(0.5, 20, dtype)
    wide = torch.float32 if dtype is torch.bfloat16 else dtype
    for name, found in average.state_dict()["average"].items():
        expected = seen[0][name].to(wide if found.is_floating_point() else found.dtype, copy=True)
        for t, values in enumerate(seen[1:]):
            if found.is_floating_point():
                expected.lerp_(values[name].to(wide), 1 - min(0.5, (1 + t) / (10 + t)))
            else:
                expected.copy_(values[name])
        assert found.dtype == expected.dtype and torch.equal(found, expected), name


def test_one_call_for_all_tensors(monkeypatch):
    """On an accelerator the calls of a loop are most of the time."""
    calls = []
    together = torch._foreach_lerp_
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *given: calls.append(len(given[0])) or together(*given))
    run(0.9, 3)
    assert calls == [6] * 3
    counter = torch.nn.Module()
    counter.register_buffer("steps", torch.tensor(2))
    average = WeightAverage(counter, 0.9)
    counter.steps += 1
    average.update(counter)
    assert average.weights()["steps"] == 3 and len(calls) == 3


def test_weights_fit_the_model_and_are_a_copy():
    model, average, _ = run(0.9, 5)
    weights = average.weights()
    model.load_state_dict(weights)
    weights["0.weight"].zero_()
    assert average.weights()["0.weight"].abs().sum() > 0
    assert not any(value.requires_grad for value in weights.values())


def test_start_is_a_copy_of_the_model():
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, 0.9)
    before = model.weight.detach().clone()
    torch.nn.init.zeros_(model.weight)
    assert torch.equal(average.weights()["weight"], before)


def test_half_precision_is_not_rounded_away():
    model = torch.nn.Linear(1, 1).to(torch.bfloat16)
    torch.nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.9999)
    average.updates = 10**7  # past the warm-up: each update moves the average by 1e-4 of the way
    torch.nn.init.ones_(model.weight)
    for _ in range(5000):
        average.update(model)
    value = average.weights()["weight"]
    assert value.dtype == torch.bfloat16 and value.item() == pytest.approx(1 - 0.9999**5000, rel=5e-3)


def test_resumed_average_goes_on_as_if_never_stopped():
    model, average, _ = run(0.99, 7)
    buffer = io.BytesIO()
    torch.save(average.state_dict(), buffer)
    buffer.seek(0)
    resumed = WeightAverage(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), 0.99)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    torch.nn.init.zeros_(model[0].weight)
    for one in (average, resumed):
        one.update(model)
    assert resumed.updates == average.updates == 8
    assert all(torch.equal(resumed.weights()[name], value) for name, value in average.weights().items())


def test_another_model_is_refused():
    average = WeightAverage(torch.nn.Linear(2, 2), 0.9)
    with pytest.raises(ValueError, match=r"expected weight of the model to be \[2, 2\], but got \[2, 3\]"):
        average.update(torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match="bias"):
        average.update(torch.nn.Linear(2, 2, bias=False))
    with pytest.raises(ValueError, match="the state"):
        average.load_state_dict(WeightAverage(torch.nn.Linear(3, 2), 0.9).state_dict())
    assert average.updates == 0


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, float("nan")])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match="decay"):
        WeightAverage(torch.nn.Linear(1, 1), decay)
