"""The quickstart's page from made-up results: pooling over seeds and wrong labels by level, against numpy."""

import re

import numpy as np
import pytest
import torch

from dlkd.data import ArrayPixels, Samples
from dlkd.evaluate import reliability
from dlkd.quickstart.page import _labels, _merged, _pooled, render
from dlkd.quickstart.summary import summarise

N = 60
EVIL = "<script>alert(1)</script> $x \"'"


def given(names=("0", "1")):
    random = np.random.default_rng(0)
    return Samples(
        ArrayPixels(torch.from_numpy(random.integers(0, 256, (N, 1, 8, 8), dtype=np.uint8))),
        torch.from_numpy(random.integers(0, 2, N)),
        np.arange(N),
        names,
        random.random(N) < 0.4,
    )


def scores(samples):
    random = np.random.default_rng(1)
    names = np.array(samples.class_names)
    distance = random.exponential(0.1, N).astype(np.float32)
    return {
        "given_label": names[samples.labels.numpy()],
        "teacher_label": names[random.integers(0, 2, N)],
        "probe_label": names[random.integers(0, 2, N)],
        "distance": distance,
        "level": (distance.argsort().argsort() + 0.5) / N,
    }


def rows(seeds):
    made = []
    for seed in range(seeds):
        bins = [{"confidence": 0.5, "accuracy": 0.6, "size": 10}, {"confidence": 1.0, "accuracy": 0.9, "size": 5}]
        deciles = [{"decile": d, "samples": 3 + seed, "accuracy": 50.0 + d} for d in (1, 5, 10)]
        base = {"seed": seed, "accuracy": 70.0 + seed, "ece": 3.0, "reliability": bins, "by_level": deciles}
        made.append({"method": "no teacher", "teacher": "none", **base})
        made += [{"method": m, "teacher": t, **base} for t in ("clean", "noisy") for m in ("KD", "DLKD")]
    return made + [{"method": "teacher", "teacher": t, **base} for t in ("clean", "noisy")]


def test_page_is_whole_and_nothing_in_it_is_markup(seeds=2):
    samples = given((EVIL, "$"))
    results = {
        "settings": {"noise": 0.4, "out": EVIL},
        "rows": rows(seeds),
        "summary": summarise(rows(seeds), 539),
    }
    page = render(results, {t: scores(samples) for t in ("clean", "noisy")}, samples)
    assert page.count("data:image/png;base64,") == 10 and "http" not in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "40 % wrong training labels" in page
    table = page.split("<ul>")[0]
    assert table.count("<tr>") == 8 and table.count("± 0.71") == 5
    assert len(re.findall("<h2>[^<]*noisy teacher</h2>", page)) == 4


def test_labels_by_level():
    samples = given()
    columns = scores(samples)
    got = _labels(columns, samples)
    order = columns["distance"].argsort().reshape(10, N // 10)  # tenths of equal size, easy to hard
    wrong = [100 * samples.wrong[part].mean() for part in order]
    agree = [100 * (columns["given_label"] == columns["teacher_label"])[part].mean() for part in order]
    assert [r["decile"] for r in got["given label wrong"]] == list(range(1, 11))
    np.testing.assert_allclose([r["accuracy"] for r in got["given label wrong"]], wrong)
    np.testing.assert_allclose([r["accuracy"] for r in got["teacher = given label"]], agree)


def test_pooled_tenths_are_weighted_by_their_images():
    runs = [
        [{"decile": 1, "samples": 1, "accuracy": 0.0}],
        [{"decile": 1, "samples": 3, "accuracy": 100.0}, {"decile": 4, "samples": 2, "accuracy": 50.0}],
    ]
    assert _pooled(runs) == [{"decile": 1, "accuracy": 75.0}, {"decile": 4, "accuracy": 50.0}]


def test_merged_bins_are_those_of_all_images_together():
    g = torch.Generator().manual_seed(4)
    # From hardly sure (1/30) to certain: every bin has its images.
    sharpness = torch.linspace(0.1, 8, 400)[torch.randperm(400, generator=g)].unsqueeze(1)
    logits, labels = sharpness * torch.randn(400, 30, generator=g), torch.randint(0, 30, (400,), generator=g)
    parts = [r._asdict() for k in range(4) for r in reliability(logits[100 * k :][:100], labels[100 * k :][:100])]
    whole = reliability(logits, labels)
    merged = _merged(parts)
    assert len(merged) == len(whole) == 15
    for a, b in zip(merged, whole, strict=True):
        assert (a["confidence"], a["accuracy"]) == (pytest.approx(b.confidence), pytest.approx(b.accuracy))
