"""The quickstart's figures from made-up rows, against numpy; and the sentences that go with them."""

import numpy as np
import pytest
from scipy import stats

from dlkd.evaluate.statistics import paired
from dlkd.quickstart.summary import print_table, sentences, summarise

ACCURACY = {
    ("no teacher", "none"): [60.0, 62.0, 64.0],
    ("teacher", "clean"): [95.0],
    ("KD", "clean"): [80.0, 82.0, 81.0],
    ("DLKD", "clean"): [83.0, 85.5, 84.5],
    ("teacher", "noisy"): [70.0],
    ("KD", "noisy"): [66.0, 70.0, 68.0],
    ("DLKD", "noisy"): [69.0, 67.0, 68.5],
}


def rows(seeds=3):
    return [
        {"method": m, "teacher": t, "seed": k, "accuracy": a, "ece": a / 10}
        for (m, t), values in ACCURACY.items()
        for k, a in enumerate(values[:seeds])
    ]


def test_table_is_mean_and_standard_deviation():
    summary = summarise(rows(), 539)
    assert [(r["method"], r["teacher"]) for r in summary["table"]] == list(ACCURACY)
    for row, values in zip(summary["table"], ACCURACY.values(), strict=True):
        assert row["mean"] == pytest.approx(np.mean(values)) and row["seeds"] == len(values)
        assert row["ece"] == pytest.approx(np.mean(values) / 10)
        assert row["sd"] == (pytest.approx(np.std(values, ddof=1)) if len(values) > 1 else None)
    assert summary["points_per_image"] == pytest.approx(100 / 539)


def test_differences_are_paired_by_seed():
    clean, noisy = summarise(rows(), 539)["comparisons"]
    difference = np.array(ACCURACY["DLKD", "clean"]) - ACCURACY["KD", "clean"]
    assert clean["mean"] == pytest.approx(difference.mean())
    # Far below the spread of either method: that is what pairing is for.
    assert clean["sd"] == pytest.approx(difference.std(ddof=1)) and clean["sd"] < 0.5
    assert (clean["verdict"], noisy["verdict"]) == ("ahead", "no difference")
    assert noisy["mean"] == pytest.approx(0.5 / 3)


def test_no_difference_is_what_a_comparison_means_by_it():
    """The t-interval over seeds, not one standard deviation: 0.3 ± 0.2 of three seeds is none."""
    made = [r for r in rows() if r["method"] not in ("KD", "DLKD")]
    for teacher, differences in (("clean", [0.3, 0.5, 0.1]), ("noisy", [0.3, 0.31, 0.29])):
        for seed, d in enumerate(differences):
            made += [{"method": "KD", "teacher": teacher, "seed": seed, "accuracy": 90.0 + seed, "ece": 1.0}]
            made += [{"method": "DLKD", "teacher": teacher, "seed": seed, "accuracy": 90.0 + seed + d, "ece": 1.0}]
    summary = summarise(made, 539)
    clean, noisy = summary["comparisons"]
    assert clean["mean"] > clean["sd"] and clean["verdict"] == "no difference"
    assert noisy["verdict"] == "ahead"
    for c in (clean, noisy):
        half = stats.t.ppf(0.975, 2) * c["sd"] / 3**0.5
        assert (c["low"], c["high"]) == (pytest.approx(c["mean"] - half), pytest.approx(c["mean"] + half))
        ours, theirs = (
            {r["seed"]: r["accuracy"] for r in made if (r["method"], r["teacher"]) == (m, c["teacher"])}
            for m in ("DLKD", "KD")
        )
        assert c == {"teacher": c["teacher"], **paired(ours, theirs)._asdict()}
    assert "+0.30 [−0.20, +0.80] points, no difference" in sentences(summary)[3]


def test_sentences_say_what_the_table_does_not():
    oracle, unit, how, clean, noisy = sentences(summarise(rows(), 539))
    assert "oracle" in oracle and "true labels of these very images" in oracle
    assert unit == "One test image is worth 0.19 points."
    assert "paired by seed, with a t-interval over seeds (95 %)" in how
    assert clean == "DLKD − KD, clean teacher: +3.33 [+2.62, +4.05] points, ahead by more than the interval."
    assert noisy.startswith("DLKD − KD, noisy teacher: +0.17 [−7.32, +7.65] points, no difference: ")


def test_one_seed_shows_no_difference():
    summary = summarise(rows(seeds=1), 539)
    assert all((c["sd"], c["verdict"]) == (None, "one seed") for c in summary["comparisons"])
    assert sentences(summary)[3] == "DLKD − KD, clean teacher: +3.00 points, one seed, which can show no difference."


def test_equal_methods_are_no_difference():
    same = [{**r, "accuracy": 50.0} for r in rows()]
    found = [(c["mean"], c["sd"], c["verdict"]) for c in summarise(same, 539)["comparisons"]]
    assert found == [(0, 0, "no difference")] * 2


def test_printed_table(capsys):
    print_table(summarise(rows(), 539), 61.4)
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    assert lines[3] == ["clean", "DLKD", "84.33 ± 1.26", "8.4"]
    assert printed.rstrip().endswith("61 s") and "- One test image is worth 0.19 points.\n" in printed
    assert "+3.33 [+2.62, +4.05] points" in printed
