"""``results.json`` of a comparison, derived a second time from what its cells left; and cells that it does not take."""

import csv
import io
import re
import shutil
from itertools import product

import numpy as np
import pytest
import yaml
from scipy import stats
from sklearn.datasets import load_digits

PLACES, METHODS, SEEDS = ("clean", "noisy"), ("ce", "kd-2", "dlkd"), (0, 3)
OF_RESULTS = {
    "nll": ("held_out", "nll"),
    "aurc": ("held_out", "aurc"),
    "wrong_label": ("memorisation", "train", "wrong_label"),
    "true_label": ("memorisation", "train", "true_label"),
    "teacher": ("teacher", "held_out", "accuracy"),
    "seconds": ("seconds",),
}
"""Figures that the answers image by image do not tell."""


def answers(out, place, method, seed):
    with np.load(out / "cells" / place / method / f"seed{seed}" / "predictions.npz") as kept:
        return {name: kept[name] for name in kept.files}


def right(found, labels):
    return found["held_out_predicted"] == found[f"held_out_{labels}"]


def calibration_error(found, bins=15):
    """In per cent, over bins closed above."""
    correct, confidence = right(found, "labels"), found["held_out_confidence"].astype(float)
    edges = np.arange(bins + 1) / bins
    which = np.digitize(confidence, edges, right=True)
    gaps = [abs((correct[which == b] - confidence[which == b]).sum()) for b in np.unique(which)]
    return 100 * sum(gaps) / len(correct)


@pytest.fixture(scope="module")
def derived(left_alone, read):
    """Row → seed → figure, from the files of the cells."""
    out, _ = left_alone
    found = {}
    for place, method, seed in product(PLACES, METHODS, SEEDS):
        kept = answers(out, place, method, seed)
        figures = {"held_out": 100 * right(kept, "labels").mean(), "ece": calibration_error(kept)}
        if place == "noisy":
            figures["held_out_clean"] = 100 * right(kept, "clean").mean()
        results = read(out / "cells" / place / method / f"seed{seed}" / "results.json")
        for name, path in OF_RESULTS.items():
            value = results
            for key in path:
                value = value.get(key, {})
            if value != {}:
                figures[name] = value
        found.setdefault((place, method), {})[seed] = figures
    return found


@pytest.fixture(scope="module")
def found(left_alone, read):
    return read(left_alone[0] / "results.json")


def test_labels_of_the_answers_are_those_of_the_data(left_alone):
    """So that what is derived from them is not of other images."""
    target = load_digits().target
    for place, method, seed in product(PLACES, METHODS, SEEDS):
        kept = answers(left_alone[0], place, method, seed)
        assert len(kept["held_out_ids"]) == len(set(kept["held_out_ids"])) == 60
        true = kept["held_out_clean" if place == "noisy" else "held_out_labels"]
        assert np.array_equal(true, target[kept["held_out_ids"]])
        if place == "noisy":
            assert 0.25 < np.mean(kept["held_out_labels"] != true) < 0.55


def test_every_seed_and_its_mean(found, derived):
    assert [(r["condition"], r["method"]) for r in found["rows"]] == list(derived)
    for row in found["rows"]:
        of = derived[row["condition"], row["method"]]
        assert row["seeds"].keys() == {"0", "3"} and row["not_run"] == []
        for seed, figures in of.items():
            assert row["seeds"][str(seed)] == pytest.approx(figures, rel=1e-4)  # confidences are kept in fp32
        assert row["figures"].keys() == of[0].keys()
        for name, spread in row["figures"].items():
            values = [row["seeds"][str(seed)][name] for seed in SEEDS]
            assert spread["n"] == 2 and spread["mean"] == pytest.approx(np.mean(values))
            assert spread["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert [r["ours"] for r in found["rows"]] == [m == "dlkd" for _, m in derived]
    # A teacher is no part of ce, and wrong labels none of clean data.
    assert "teacher" not in derived["clean", "ce"][0] and "teacher" in derived["clean", "kd-2"][0]
    assert "wrong_label" in derived["noisy", "ce"][0] and "wrong_label" not in derived["clean", "ce"][0]
    assert len({f["held_out"] for by in derived.values() for f in by.values()}) > 3  # so that all this says something


def holm(p):
    """Of two."""
    low, high = sorted(p)
    return {low: min(1, 2 * low), high: min(1, max(2 * low, high))}


def test_paired_differences(found, derived):
    at = {(c["condition"], c["figure"], c["method"], c["against"]): c for c in found["compared"]}
    figures = {"clean": ["held_out"], "noisy": ["held_out", "held_out_clean"]}
    pairs = [("ce", "kd-2"), ("dlkd", "ce"), ("dlkd", "kd-2")]  # ours to every other, the others to the baseline
    wanted = {(place, f, *pair) for place in PLACES for f in figures[place] for pair in pairs}
    assert at.keys() == wanted and len(found["compared"]) == len(wanted)
    for (place, figure, method, other), c in at.items():
        ours, theirs = ([derived[place, m][s][figure] for s in SEEDS] for m in (method, other))
        difference = np.subtract(ours, theirs)
        assert (c["n"], c["pair"]) == (2, "all")
        assert c["mean"] == pytest.approx(difference.mean()) and c["sd"] == pytest.approx(difference.std(ddof=1))
        if difference.std() > 1e-9:
            test = stats.ttest_rel(ours, theirs)
            assert [c["low"], c["high"]] == pytest.approx(list(test.confidence_interval(0.95)))
            assert c["p"] == pytest.approx(test.pvalue)
    for place in PLACES:
        for figure in figures[place]:
            both = [at[place, figure, "dlkd", other] for other in ("ce", "kd-2")]
            adjusted = holm([c["p"] for c in both])
            assert [c["p_holm"] for c in both] == pytest.approx([adjusted[c["p"]] for c in both])
            alone = at[place, figure, "ce", "kd-2"]
            assert alone["p_holm"] == alone["p"]


def test_the_best_of_the_others_is_marked_for_ours_alone(found, derived):
    for place in PLACES:
        means = {m: np.mean([derived[place, m][s]["held_out"] for s in SEEDS]) for m in ("ce", "kd-2")}
        best = max(means, key=means.get)
        for c in found["compared"]:
            if c["condition"] == place and c["method"] == "dlkd":
                assert c["best_baseline"] == (c["against"] == best)


def test_interval_over_images(left_alone, found):
    """Against images drawn one by one."""
    draw = np.random.default_rng(0)
    for c in found["compared"]:
        labels = {"held_out": "labels", "held_out_clean": "clean"}[c["figure"]]
        ours, theirs = (
            np.mean([right(answers(left_alone[0], c["condition"], m, s), labels) for s in SEEDS], axis=0)
            for m in (c["method"], c["against"])
        )
        each = 100 * (ours - theirs)[draw.integers(0, 60, (20_000, 60))].mean(axis=1)
        assert c["images"]["mean"] == pytest.approx(100 * (ours - theirs).mean())
        assert c["images"]["mean"] == pytest.approx(c["mean"])  # the same seeds and images, only the intervals differ
        ends = np.quantile(each, [0.025, 0.975])
        # A share moves in steps of half an image of sixty.
        assert [c["images"]["low"], c["images"]["high"]] == pytest.approx(ends, abs=100 / 120 + 1e-9)


def test_tenths_of_the_difficulty(left_alone, found):
    """By the true labels; six of sixty images each."""
    for row in found["rows"]:
        place, method = row["condition"], row["method"]
        kept = [answers(left_alone[0], place, method, seed) for seed in SEEDS]
        distance = answers(left_alone[0], place, "dlkd", 0)["held_out_distance"]
        assert len(np.unique(distance)) == 60
        mean = np.mean([right(k, "clean" if place == "noisy" else "labels") for k in kept], axis=0)
        wanted = [100 * part.mean() for part in np.array_split(mean[np.argsort(distance)], 10)]
        assert [tenth["samples"] for tenth in row["deciles"]] == [6] * 10
        assert [tenth["accuracy"] for tenth in row["deciles"]] == pytest.approx(wanted)


def test_rows_name_the_options_that_make_them_again(found):
    noisy = {row["method"]: row for row in found["rows"] if row["condition"] == "noisy"}
    options = noisy["kd-2"]["options"]
    assert (options["method"], options["loss"]["temperature"], options["data"]["noise"]) == ("kd", 2, 0.4)
    assert not {"out", "seed", "store", "resume", "overwrite", "force"} & options.keys()
    assert "root" not in options["data"]
    assert noisy["kd-2"]["settings"]["temperature"] == 2 and noisy["dlkd"]["settings"]["name"] == "dlkd"
    assert (found["seeds"], found["baseline"], found["ours"], found["recipe"]) == ([0, 3], "kd-2", ["dlkd"], None)
    assert {"versions", "machine", "threads", "accelerator"} <= found.keys()


def test_csv_has_every_figure_to_the_last_digit(left_alone, found):
    rows = list(csv.DictReader(io.StringIO((left_alone[0] / "results.csv").read_text())))
    wanted = [(r["condition"], r["method"], seed, of) for r in found["rows"] for seed, of in r["seeds"].items()]
    assert len(rows) == len(wanted) == 12
    for row, (condition, method, seed, figures) in zip(rows, wanted, strict=True):
        assert (row.pop("pair"), row.pop("condition"), row.pop("method"), row.pop("seed")) == (
            *("all", condition),
            *(method, seed),
        )
        assert {name: float(value) for name, value in row.items() if value} == figures


def test_what_was_not_run_is_said(copied, study, good, read):
    """A seed of all rows, and all seeds of one."""
    done = good(*study(copied, "--collect", "--seeds", "[0, 3, 4]", "--methods.later.method", "kd"))
    found = read(copied / "results.json")
    assert [row["not_run"] for row in found["rows"]] == [[4], [4], [4], [0, 3, 4]] * 2
    assert all(row["figures"] == {} and row["deciles"] == [] for row in found["rows"] if row["method"] == "later")
    assert not any("later" in (c["method"], c["against"]) for c in found["compared"])
    assert not (copied / "cells" / "clean" / "later").exists()
    for text in (*((copied / f"table.{end}").read_text() for end in ("md", "tex")), done.out):
        assert text.count("not run") >= 2 and "2 of 3 seeds" in text
    assert "not run" in (copied / "report.html").read_text()
    rows = list(csv.DictReader(io.StringIO((copied / "results.csv").read_text())))
    missing = [(r["condition"], r["method"], r["seed"]) for r in rows if "not run" in r.values()]
    assert len(rows) == 24 and len(missing) == 12 and missing[:2] == [("clean", "ce", "4"), ("clean", "kd-2", "4")]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--run.epochs", 3), "epochs"),
        (("--methods.kd-2.loss.temperature", 3), "loss"),
        (("--conditions.noisy.data.noise", 0.3), "data"),
        (("--run.teacher.fold", "false"), "teacher"),
    ],
)
def test_cells_of_other_settings_are_not_taken(left_alone, study, dlkd, refused, options, name):
    before = (left_alone[0] / "results.json").read_bytes()
    done = dlkd(*study(left_alone[0], "--collect", *options))
    refused(done, f"was run with another --{name}", "another name", f"delete {left_alone[0]}")
    assert (left_alone[0] / "results.json").read_bytes() == before


def test_where_it_runs_does_not_count(copied, study, good, read, left_alone):
    more = ("--run.data.root", copied / "elsewhere", "--run.device", "auto", "--run.engine.checkpoint_every", 9)
    good(*study(copied, "--collect", *more))
    now, before = (read(folder / "results.json") for folder in (copied, left_alone[0]))
    assert [row["figures"] for row in now["rows"]] == [row["figures"] for row in before["rows"]]


def test_settings_of_a_label_term_count_where_it_reads_them(copied, study, good, dlkd, refused):
    """Those of another may be the default of an earlier version."""
    for config in copied.glob("cells/**/config.yaml"):
        config.write_text(re.sub(r"(?m)^(label:(?:\n  .*)*\n  beta:) .*", r"\1 1.0", config.read_text()))
        assert yaml.safe_load(config.read_text())["label"]["beta"] == 1.0
    good(*study(copied, "--collect"))
    refused(dlkd(*study(copied, "--collect", "--run.label.term", "smoothing")), "was run with another --label")


def test_arithmetic_counts(copied, study, dlkd, refused):
    """Cells of another precision are not those of this one."""
    done = dlkd(*study(copied, "--collect", "--run.engine.precision", "bf16"))
    refused(done, "was run with another --engine")


def test_a_file_of_labels_that_was_exchanged(small, good, dlkd, refused, tmp_path):
    """Where it lies does not count, what is in it does: methods would be compared on different labels."""
    out, noise = tmp_path / "out", ("--run.data.noise_kind", "matrix")
    for name, shift in (("a", 1), ("b", 2)):
        matrix = 0.6 * np.eye(10) + 0.4 * np.roll(np.eye(10), shift, axis=1)
        np.savetxt(tmp_path / f"{name}.csv", matrix, delimiter=",")
    shutil.copy(tmp_path / "a.csv", tmp_path / "moved.csv")
    good(*small(out, *noise, "--run.data.noise_file", tmp_path / "a.csv", "--seeds", 1))
    good(*small(out, *noise, "--run.data.noise_file", tmp_path / "moved.csv", "--seeds", 1, methods="[ce, ls]"))
    other = (*noise, "--run.data.noise_file", tmp_path / "b.csv", "--seeds", 1)
    done = dlkd(*small(out, *other, methods="{ce: , ls: , third: {method: ls}}"))
    refused(done, "different images or labels", "--data.noise_file", out / "cells" / "third" / "seed0")


def without(*names):
    """Of an archive of arrays."""

    def change(content):
        with np.load(io.BytesIO(content)) as kept:
            arrays = {name: kept[name] for name in kept.files if name not in names}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    return change


DAMAGE = {
    "results cut": ("results.json", lambda b: b[: len(b) // 2]),
    "results empty": ("results.json", lambda b: b""),
    "results of another kind": ("results.json", lambda b: b"[1, 2]"),
    "results without the method": ("results.json", lambda b: b.replace(b'"method"', b'"methods"')),
    "a figure that is no number": ("results.json", lambda b: b.replace(b'"aurc": ', b'"aurc": "x", "old": ')),
    "a figure that is not finite": ("results.json", lambda b: b.replace(b'"aurc": ', b'"aurc": NaN, "old": ')),
    "results that are no text": ("results.json", lambda b: b"\xff\xfe" + b),
    "answers cut": ("predictions.npz", lambda b: b[: len(b) // 2]),
    "answers empty": ("predictions.npz", lambda b: b""),
    "answers without labels": ("predictions.npz", without("held_out_labels")),
    "a card without data": ("run.json", lambda b: b.replace(b'"data": {', b'"data": 3, "old": {')),
    "options cut in a group": ("config.yaml", lambda b: b.replace(b"data:", b"data: {")),
    "options empty": ("config.yaml", lambda b: b""),
    "options that are no text": ("config.yaml", lambda b: b"\xff\xfe\x00" + b),
    "options of another kind": ("config.yaml", lambda b: b.replace(b"data:", b"data: digits\nother:")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_told_in_one_line(left_alone, study, dlkd, refused, damage):
    name, change = DAMAGE[damage]
    cell = left_alone[0] / "cells" / "noisy" / "dlkd" / "seed0"
    whole = (cell / name).read_bytes()
    assert change(whole) != whole
    (cell / name).write_bytes(change(whole))
    try:
        refused(dlkd(*study(left_alone[0], "--collect")), cell)
    finally:
        (cell / name).write_bytes(whole)


def test_answers_may_be_missing(copied, study, good, read):
    """Cells of an older version have none: there are no intervals over images, and no tenths."""
    for file in copied.glob("cells/**/predictions.npz"):
        file.unlink()
    good(*study(copied, "--collect"))
    found = read(copied / "results.json")
    assert all(row["deciles"] == [] and row["seeds"].keys() == {"0", "3"} for row in found["rows"])
    assert found["compared"] and all(c["images"] is None for c in found["compared"])
