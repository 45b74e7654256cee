"""The figures of the score against sklearn, our own AURC and closed forms; the script on a few images; its page."""

import importlib
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dlkd.data import DataOptions, load_data
from dlkd.difficulty import DifficultyScore, ProbeSpec
from dlkd.errors import UserError
from dlkd.evaluate import aurc
from dlkd.models import InputFormat, build_model, save_student
from dlkd.train.teach import label_digest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch):
    """A module of the script by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def figures(load):
    return load("score_figures")


def known(n=400, seed=0):
    """A target, and a score that tells it in part, with ties."""
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.3
    return np.round(random.normal(size=n) + positive, 1), positive


def test_weighted_auroc_is_that_of_the_drawn_images(figures):
    score, positive = known()
    weights = figures.resamples(len(score), 5, seed=1)
    assert (weights.sum(axis=0) == len(score)).all()
    assert figures.auroc(score, positive)[0] == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    for found, times in zip(figures.auroc(score, positive, weights), weights.T.astype(int), strict=True):
        drawn = np.repeat(np.arange(len(score)), times)
        assert found == pytest.approx(roc_auc_score(positive[drawn], score[drawn]), abs=1e-12)


def test_aurc_is_that_of_the_package_for_its_own_confidence(figures):
    logits = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).round(decimals=1).double()
    labels = torch.randint(5, (300,), generator=torch.Generator().manual_seed(1))
    confidence, predicted = torch.softmax(logits, dim=1).max(dim=1)
    found = figures.aurc(-confidence.numpy(), (predicted != labels).numpy())
    assert found == pytest.approx(aurc(logits, labels), abs=1e-9)


def test_both_images_of_a_pair_are_drawn_together(figures):
    pair = np.array([0, 1, 0, 1, 2, 2])
    weights = figures.resamples(6, 50, 0, pair)
    assert (weights[0] == weights[2]).all() and (weights[4] == weights[5]).all()
    assert (weights[0] != weights[1]).any() and (weights.sum(axis=0) == 6).all()


def test_intervals_cover_the_truth_as_often_as_they_say(figures):
    # Normal scores, shift 1: AUROC = Φ(1/√2).
    truth, covered = 0.7602499389, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        positive = np.arange(200) < 80
        score = random.normal(size=200) + positive
        own, gain = figures.Ruler(positive, figures.resamples(200, 300, seed), score)(score)
        assert gain == (0, 0, 0)
        covered += own.low <= truth <= own.high
    assert 52 <= covered <= 60


def test_what_is_added_is_found_where_there_is_something(figures):
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 3000))
    positive = random.random(3000) < 1 / (1 + np.exp(-(a + b)))
    weights = figures.resamples(3000, 200, 0)
    both, gain = figures.beyond([a], [b], positive, weights)
    # By the simulation's own order a + b, which no regression can do better than.
    assert gain.low > 0.03 and both.value == pytest.approx(roc_auc_score(positive, a + b), abs=0.01)
    nothing = figures.beyond([a], [c], positive, weights)[1]
    assert nothing.value < 0.005 and not nothing.low > 0


def test_a_choice_is_judged_on_other_images(figures):
    random = np.random.default_rng(0)
    positive = random.random(400) < 0.5
    noise = {f"noise{k}": random.normal(size=400) for k in range(200)}
    halves = figures.chosen_by_halves(
        noise, {"none": np.zeros(400)}, positive, lambda n: figures.resamples(n, 200, 0), seed=0
    )
    best = max(roc_auc_score(positive, score) for score in noise.values())
    assert best > 0.56 and all(half.auroc < best for half in halves)  # as lucky as that is no one twice
    assert all(half.above["none"].value == pytest.approx(half.auroc - 0.5) for half in halves)
    told = {**noise, "told": positive + random.normal(size=400)}
    assert {
        h.name for h in figures.chosen_by_halves(told, {}, positive, lambda n: figures.resamples(n, 9, 0), seed=0)
    } == {"told"}


def test_a_difference_of_aurc_is_paired(figures):
    score, error = known()
    weights = figures.resamples(len(score), 50, 0)
    assert figures.aurc_difference(score, 2 * score + 1, error, weights) == (0, 0, 0)
    blind = np.random.default_rng(3).normal(size=len(score))
    assert figures.aurc_difference(blind, score, error, weights).low > 0


@pytest.fixture
def digits(load, tmp_path):
    """Held-out digits, 40 % of their given labels wrong, and a teacher that has barely seen the others."""
    answers = load("score_answers")
    data = load_data(DataOptions(noise=0.4))
    held_out = data.part("held_out")
    clean = data.clean_of(held_out)
    wrong = (held_out.labels != clean).numpy()
    images = answers.Images(data, held_out.relabelled(clean.numpy(), np.zeros_like(wrong)), held_out.labels, wrong)
    torch.manual_seed(0)
    model = build_model("resnet8x0.5", 10, channels=1)
    model.train()
    model(held_out.pixels.array.float() / 255)  # statistics of real images
    save_student(
        tmp_path / "teacher",
        model.state_dict(),
        name="resnet8x0.5",
        num_classes=10,
        channels=1,
        input_format=InputFormat(),
        class_names=data.train.class_names,
        card={"trained_on": {"images": data.train.digest(), "labels": label_digest(data.train)}},
    )
    return images, tmp_path


def test_all_tables_of_a_small_teacher(load, digits):
    images, folder = digits
    answers, columns, tables = load("score_answers"), load("score_columns"), load("score_tables")
    asked = answers.Answers("teacher", images, folder, folder / "cache")
    logits = asked(columns.PLAIN)
    targets = {"own_error": answers.errors(logits, images.samples.labels), "given_wrong": images.wrong}
    plain = tables.Plain(asked, targets, tables.Bootstrap(20, 0))
    found = plain.tables()
    rows = {row["score"]: row for row in found["rows"]}
    distance = DifficultyScore("distance", 1.0)(logits, probe_logits=asked(columns.PLAIN, ProbeSpec(0.3))).double()
    value, low, high, gain, *_ = rows["global-0.3/l2/tau1"]["own_error"]
    assert value == pytest.approx(roc_auc_score(targets["own_error"], distance), abs=1e-4) and low <= value <= high
    assert gain == pytest.approx(value - rows["max_probability/tau1"]["own_error"][0], abs=2e-4)
    doubt = 1 - torch.softmax(logits.double(), dim=1).amax(dim=1)
    auroc = rows["max_probability/tau1"]["own_error"][0]
    assert auroc == pytest.approx(roc_auc_score(targets["own_error"], doubt), abs=1e-4)
    assert rows["max_probability/tau1"]["spearman"] == 1 and rows["max_probability/tau1"]["own_error"][3:] == [0, 0, 0]
    # The network with nothing pruned differs by the statistics of the batch alone.
    spread = {row["probe"]: row.get("distance") for row in found["probes"]}
    assert spread["global-0-bn.batch"] > 0
    # By magnitude, ten sparsities in two scopes; random, eight masks at 1, 2, 5 and 10 % and one at the eight others,
    # and one by layer at six; other statistics, two of five probes. And the teacher.
    assert len(spread) == len(found["probes"]) == 2 * 10 + (4 * 8 + 8) + 6 + 2 * 5 + 1
    # Of several masks the first alone has a row.
    assert {name for name in rows if "global-0.02-random" in name} == {
        f"global-0.02-{mask}/l2/tau{tau}" for mask in ("random0", "random-mean8") for tau in ("1", "0.25")
    }
    masks = [asked(columns.PLAIN, ProbeSpec(0.02, criterion="random", seed=seed)) for seed in range(8)]
    each = [DifficultyScore("distance", 0.25)(logits, probe_logits=mask).double().numpy() for mask in masks]
    by_count = {
        row["probes"]: row
        for row in found["random_probes"]
        if (row["sparsity"], row["tau"], row["target"]) == (0.02, 0.25, "own_error")
    }
    alone = [roc_auc_score(targets["own_error"], score) for score in each]
    together = roc_auc_score(targets["own_error"], np.mean(each, axis=0))
    assert by_count[1]["auroc"] == pytest.approx(np.mean(alone), abs=1e-4)
    assert by_count[1]["sd"] == pytest.approx(np.std(alone, ddof=1), abs=1e-4)
    assert by_count[8]["auroc"] == pytest.approx(together, abs=1e-4) and "sd" not in by_count[8]
    assert by_count[8]["above_one"][0] == pytest.approx(together - np.mean(alone), abs=2e-4)
    assert {row["target"] for row in found["beyond"]} == set(targets) and found["label_aware"]
    assert all(0 <= row["auroc"] <= 1 for table in ("random_probes", "chosen") for row in found[table])

    # What was kept is what is asked for the next time, without a model.
    again = answers.Answers("teacher", images, folder, folder / "cache")
    again.loaded = None
    assert torch.equal(again(columns.PLAIN, ProbeSpec()), asked(columns.PLAIN, ProbeSpec()))

    mixed = tables.mixed_views(asked, asked, answers.View("cutmix"), tables.Bootstrap(20, 0))
    shown = tables.one_view(asked, tables.Bootstrap(20, 0))
    # The teacher alone, and of three probes the distance at two temperatures, js, cosine and logits.
    assert [row["score"] for row in mixed["rows"]] == [row["score"] for row in shown["rows"]]
    assert len({row["score"] for row in mixed["rows"]}) == 4 + 3 * 5


def test_the_larger_share_of_a_mixed_image(load, digits):
    answers = load("score_answers")
    samples, view = digits[0].samples, answers.View("mixup")
    label, target, pair = answers.mixed(samples, view)
    family = answers.family(samples, view)
    positions = np.arange(len(samples))
    partners = family.partners(positions, np.zeros_like(positions))
    assert (pair == pair[partners]).all() and np.bincount(pair).max() == 2
    assert torch.equal(target, family.batch(positions, np.zeros_like(positions)).target)
    own = target.gather(1, samples.labels[:, None])[:, 0]
    expected = torch.where(own > 0.5, samples.labels, samples.labels[torch.from_numpy(partners)])
    assert torch.equal(label, expected)


def test_a_teacher_of_other_labels_is_refused(load, digits):
    images, folder = digits
    answers = load("score_answers")
    other = images._replace(data=load_data(DataOptions(noise=0.3)))
    with pytest.raises(UserError, match="its card names others"):
        answers.Answers("teacher", other, folder, None)


@pytest.fixture
def found(load):
    return load("score").read(ROOT / "results" / "score.json")


def test_the_file_is_whole(found, load):
    assert {"versions", "machine", "threads", "settings"} <= found.keys() and isinstance(found["settings"]["seed"], int)
    assert list(found["teachers"]) == list(load("score_answers").TEACHERS)
    columns = load("score_columns")
    asked = (*columns.MAGNITUDE, *columns.RANDOM, *columns.RANDOM_LAYER, *columns.NORMS)
    for name, tables in found["teachers"].items():
        assert tables["images"] == 5000 and tables["second"] == load("score_answers").SECOND[name]
        assert [row["probe"] for row in tables["probes"]] == ["teacher", *(spec.name for spec in asked)]
        rows = {row["score"]: row for row in tables["rows"]}
        alone = [spec for spec in asked if spec.seed == 0]  # of several masks the first
        assert {score.column(spec.name) for spec in alone for score in columns.DISTANCES} <= rows.keys()
        assert {f"{name}/tau1" for name in columns.WITHOUT_PROBE} <= rows.keys()
        assert ("given_wrong" in tables["share"]) == (name != "cifar100-clean") == bool(tables["label_aware"])
        several = {(r["sparsity"], r["tau"], r["target"], r["probes"]): r for r in tables["random_probes"]}
        assert several.keys() == set(product((0.01, 0.02, 0.05, 0.1), (1, 0.25), tables["share"], (1, 2, 4, 8)))
        for (sparsity, tau, target, probes), row in several.items():
            if probes == 8:
                mean = rows[f"global-{sparsity:g}-random-mean8/l2/tau{tau:g}"][target][0]
                assert row["auroc"] == mean
                one = several[sparsity, tau, target, 1]["auroc"]
                assert row["above_one"][0] == pytest.approx(mean - one, abs=2e-4)
    assert "/tmp" not in json.dumps(found) and "/work" not in json.dumps(found)


def test_the_page_shows_the_file(found, load, tmp_path):
    page = ROOT / "docs" / "evidence" / "score.md"
    shown, copy = load("score_page"), tmp_path / "score.md"
    copy.write_text(page.read_text())
    shown.renew(copy, found)
    assert copy.read_text() == page.read_text()
    assert page.with_suffix(".svg").stat().st_size < 60_000 and copy.with_suffix(".svg").is_file()


def test_figures_of_the_text_stand_in_the_tables():
    page = (ROOT / "docs" / "evidence" / "score.md").read_text()
    table = r"<!-- (\w+) -->\n(.*?)<!-- end -->"
    figures = {name: set(re.findall(r"\d+\.\d+", rows)) for name, rows in re.findall(table, page, re.DOTALL)}
    first, method, *sections = page.split("\n## ")
    told = 0
    for text in (first, method, *sections):
        # A section speaks of its own tables and of two that all the others lean on; the first of all of them.
        own = {name for name, _ in re.findall(table, text, re.DOTALL)} | {"headline", "coverage"}
        known = set.union(*(figures[name] for name in (figures if text == first else own)))
        said = set(re.findall(r"\d+\.\d+", re.sub(table + "|`[^`]*`", "", text, flags=re.DOTALL)))
        told += len(said)
        assert said <= known, text.splitlines()[0]
    assert told > 30
