"""Sums over an epoch equal a plain Python computation, whatever the batches were."""

import numpy as np
import pytest
import torch

from dlkd.methods import LossParts
from dlkd.train.diagnostics import Diagnostics

N, CLASSES = 40, 3


def by_hand(with_level=True):
    draw = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(*shape, generator=draw)

    level = uniform(N)
    level[:4] = torch.tensor([0.0, 1.0, 0.1, 0.0999])  # both ends and the edge of a tenth
    return {
        "level": level if with_level else None,
        "ce": uniform(N),
        "kd": uniform(N),
        "temperature": 1 + uniform(N),
        "logits": uniform(N, CLASSES),
        "teacher": uniform(N, CLASSES),
        "gradient": uniform(N, CLASSES) - 0.5,
        "labels": torch.arange(N) % CLASSES,
        "feature": uniform(N),
    }


def feed(found, values, sizes=(N,)):
    for part in torch.arange(N).split(list(sizes)):
        v = {k: None if x is None else x[part] for k, x in values.items()}
        parts = LossParts(v["ce"].mean(), v["ce"], v["kd"], v["temperature"], v["level"], feature=v["feature"])
        found.add(parts, v["logits"], v["gradient"], v["labels"], v["teacher"])
    return found


def expected(values, chosen):
    v = {k: None if x is None else x.double().numpy()[chosen] for k, x in values.items()}
    predicted = v["logits"].argmax(1)
    norms = np.linalg.norm(values["gradient"].double().numpy(), axis=1)
    return {
        "samples": len(predicted),
        "level": v["level"].mean(),
        "ce": v["ce"].mean(),
        "kd": v["kd"].mean(),
        "temperature": v["temperature"].mean(),
        "feature": v["feature"].mean(),
        "gradient_weight": norms[chosen].mean() / norms.mean(),
        "accuracy": 100 * np.mean(predicted == v["labels"]),
        "agreement": 100 * np.mean(predicted == v["teacher"].argmax(1)),
    }


@pytest.mark.parametrize("sizes", [(N,), (1, 7, 32)])
def test_epoch_and_tenths(sizes):
    values = by_hand()
    found = feed(Diagnostics(torch.device("cpu")), values, sizes)
    assert found.epoch() == pytest.approx(expected(values, np.arange(N)), rel=1e-6)
    assert found.epoch()["gradient_weight"] == pytest.approx(1, abs=1e-12)
    tenth = np.minimum((values["level"].double().numpy() * 10).astype(int), 9)
    assert tenth[:4].tolist() == [0, 9, 1, 0]
    rows = found.by_level()
    assert [row["decile"] for row in rows] == (np.unique(tenth) + 1).tolist()
    for row in rows:
        k = row.pop("decile") - 1
        assert row == pytest.approx(expected(values, np.flatnonzero(tenth == k)), rel=1e-6)
    assert sum(row["samples"] * row["gradient_weight"] for row in rows) == pytest.approx(N)


def test_without_level_or_teacher():
    values = by_hand(with_level=False)
    found = Diagnostics(torch.device("cpu"))
    parts = LossParts(values["ce"].mean(), values["ce"], None, None, None)
    found.add(parts, values["logits"], values["gradient"], values["labels"], None)
    means = found.epoch()
    assert found.by_level() == [] and means["samples"] == N and means["ce"] == pytest.approx(values["ce"].mean().item())
    assert means["kd"] == means["temperature"] == means["agreement"] == means["level"] == 0


def test_nothing_seen_and_no_gradient_are_no_division_by_zero():
    found = Diagnostics(torch.device("cpu"))
    assert set(found.epoch().values()) == {0} and found.by_level() == []
    values = by_hand()
    values["gradient"] = torch.zeros(N, CLASSES)
    assert feed(found, values).epoch()["gradient_weight"] == 0


def test_sums_go_on_where_others_stopped():
    values, device = by_hand(), torch.device("cpu")
    whole, first, second = (Diagnostics(device) for _ in range(3))
    feed(whole, values)
    half = {k: x[:20] for k, x in values.items()}, {k: x[20:] for k, x in values.items()}
    parts = [
        LossParts(v["ce"].mean(), v["ce"], v["kd"], v["temperature"], v["level"], feature=v["feature"]) for v in half
    ]
    first.add(parts[0], half[0]["logits"], half[0]["gradient"], half[0]["labels"], half[0]["teacher"])
    second.sums.copy_(first.sums)
    second.add(parts[1], half[1]["logits"], half[1]["gradient"], half[1]["labels"], half[1]["teacher"])
    assert second.epoch() == pytest.approx(whole.epoch(), rel=1e-12)
