"""The quickstart's figures from made-up rows, against numpy; and the sentences that go with them."""

import numpy as np
import pytest

from dlkd.quickstart.summary import print_table, sentences, spread, summarise

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
    assert clean["exceeds_spread"] and not noisy["exceeds_spread"]
    assert noisy["mean"] == pytest.approx(0.5 / 3)


def test_sentences_say_what_the_table_does_not():
    oracle, unit, clean, noisy = sentences(summarise(rows(), 539))
    assert "oracle" in oracle and "true labels of these very images" in oracle
    assert unit == "One test image is worth 0.19 points."
    assert clean.startswith("DLKD − KD, clean teacher: +3.33 ± 0.29 points, larger than its spread over seeds")
    assert "not a significance test" in clean
    assert noisy == "DLKD − KD, noisy teacher: +0.17 ± 3.01 points, no difference: within the spread over seeds."


def test_one_seed_shows_no_difference():
    summary = summarise(rows(seeds=1), 539)
    assert all(c["sd"] is None and not c["exceeds_spread"] for c in summary["comparisons"])
    assert sentences(summary)[2] == "DLKD − KD, clean teacher: +3.00 points, one seed, which can show no difference."


def test_equal_methods_are_no_difference():
    same = [{**r, "accuracy": 50.0} for r in rows()]
    assert [(c["mean"], c["sd"], c["exceeds_spread"]) for c in summarise(same, 539)["comparisons"]] == [
        (0, 0, False)
    ] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((87.204, 2.6), "87.20 ± 2.60"),
        ((87.2, None), "87.20"),
        ((0.5, 0.1, "+"), "+0.50 ± 0.10"),
        ((-0.5, None, "+"), "−0.50"),
    ],
)
def test_spread(arguments, words):
    assert spread(*arguments) == words


def test_printed_table(capsys):
    print_table(summarise(rows(), 539), 61.4)
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    assert lines[3] == ["clean", "DLKD", "84.33 ± 1.26", "8.4"]
    assert printed.rstrip().endswith("61 s") and "- One test image is worth 0.19 points.\n" in printed
