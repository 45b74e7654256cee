"""The real command: the files it leaves, and one line with exit code 2 for every bad input."""

import csv
import json

import numpy as np
import pytest

ROWS = [("no teacher", "none"), *((m, t) for t in ("clean", "noisy") for m in ("teacher", "KD", "DLKD"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dlkd_process):
    # A folder whose name rich would take for markup.
    out = tmp_path_factory.mktemp("runs") / "quick[/red] :smile:"
    done = dlkd_process("quickstart", "--out", out, "--seeds", 1, "--epochs", 1)
    assert done.status == 0, done.err
    return out, done.out


@pytest.fixture(scope="module")
def results(finished):
    return json.loads((finished[0] / "results.json").read_text())


def test_files(finished):
    out, _ = finished
    assert sorted(p.name for p in out.iterdir()) == [
        "difficulty-clean.csv",
        "difficulty-noisy.csv",
        "parts",
        "report.html",
        "results.json",
        "run.json",
    ]
    parts = {p.name for p in (out / "parts").iterdir()}
    runs = {"alone-0", *(f"teacher-{t}" for t in ("clean", "noisy"))}
    runs |= {f"{m}-{t}-0" for m in ("kd", "dlkd") for t in ("clean", "noisy")}
    assert parts == runs | {f"store-{t}-0" for t in ("clean", "noisy")}
    assert all((out / "parts" / run / "student.safetensors").is_file() for run in runs)


def test_table_and_sentences(finished, results):
    _, printed = finished
    table = results["summary"]["table"]
    assert [(r["method"], r["teacher"]) for r in table] == ROWS
    assert all(0 < r["mean"] < 100 and r["sd"] is None and r["seeds"] == 1 for r in table)
    lines = [[c.strip() for c in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    assert [line[:3] for line in lines] == [[t, m, f"{r['mean']:.2f}"] for (m, t), r in zip(ROWS, table, strict=True)]
    assert "The clean teacher is an oracle" in printed and "Only the noisy teacher is a realistic case." in printed
    assert "One test image is worth 0.19 points." in printed
    assert printed.count("one seed, which can show no difference") == 2
    assert f"no teacher, seed 0: {table[0]['mean']:.2f} %" in printed
    assert f"teacher, clean labels, seed 0: {table[1]['mean']:.2f} %" in printed
    assert f"DLKD from the noisy teacher, seed 0: {table[6]['mean']:.2f} %" in printed


def test_what_is_printed_is_never_markup(finished):
    out, printed = finished
    assert f"Report: {out / 'report.html'}\n" in printed


def test_figures_are_those_of_the_parts(finished, results):
    out, _ = finished
    names = ["alone-0", "teacher-clean", "kd-clean-0", "dlkd-clean-0", "teacher-noisy", "kd-noisy-0", "dlkd-noisy-0"]
    for name, row in zip(names, results["rows"], strict=True):
        part = json.loads((out / "parts" / name / "results.json").read_text())
        assert part["test"]["accuracy"] == row["accuracy"] and part["test"]["ece"] == row["ece"]
        assert part["epochs"] == 1
    cards = {name: json.loads((out / "parts" / name / "run.json").read_text()) for name in names}
    # Same images, labels and views for all students; the clean teacher alone has other labels.
    assert len({c["data"]["images"] for c in cards.values()}) == 1
    assert len({c["data"]["views"] for c in cards.values()}) == 1
    assert {n for n, c in cards.items() if c["data"]["labels"] != cards["alone-0"]["data"]["labels"]} == {
        "teacher-clean"
    }
    assert {c["teacher"]["labels"] for n, c in cards.items() if "dlkd" in n} == {"clean", "given"}
    assert cards["kd-clean-0"]["teacher"]["probes"] == cards["dlkd-clean-0"]["teacher"]["probes"]


def test_page(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 10
    assert "http" not in page and 'src="/' not in page and "href" not in page
    assert page.count("<tr>") == 1 + len(ROWS)


@pytest.mark.parametrize("teacher", ["clean", "noisy"])
def test_difficulty_tables(finished, teacher):
    with (finished[0] / f"difficulty-{teacher}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1258 and len({r["id"] for r in rows}) == 1258
    distance, level = (np.array([float(r[k]) for r in rows]) for k in ("distance", "level"))
    assert 0 <= distance.min() and distance.max() <= 2**0.5
    # Each image's mid-rank among all of them.
    rank = (np.searchsorted(np.sort(distance), distance) + np.searchsorted(np.sort(distance), distance, "right")) / 2
    np.testing.assert_allclose(level, rank / len(rows), atol=1 / 1024 + 1 / len(rows))


def test_one_seed_shows_no_difference(results):
    assert all((c["sd"], c["verdict"]) == (None, "one seed") for c in results["summary"]["comparisons"])


def test_a_run_is_not_replaced_unasked(finished, dlkd):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    refused = dlkd("quickstart", "--out", out)
    assert refused.status == 2 and "--overwrite" in refused.err and refused.err.count("\n") == 1
    assert (out / "results.json").read_bytes() == before


def test_overwrite_never_empties_a_folder_that_is_no_run(tmp_path, dlkd):
    (tmp_path / "thesis.txt").write_text("precious")
    refused = dlkd("quickstart", "--out", tmp_path, "--overwrite")
    assert refused.status == 2 and refused.err.count("\n") == 1
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", 0, "at least 1"),
        ("--epochs", 0, "at least 1"),
        ("--seed", -1, "at least 0"),
        ("--seed", 2**63, "below 2^63"),
        ("--noise", 1.5, "(0, 1]"),
        ("--noise", 0, "(0, 1]"),
        ("--noise", "nan", "number"),
        ("--sparsity", 1, "[0, 1)"),
        ("--noise", "much", "number"),
        ("--nois", 0.1, "noise"),
    ],
)
def test_bad_options(tmp_path, option, value, message, dlkd):
    refused = dlkd("quickstart", "--out", tmp_path / "new", option, value)
    assert refused.status == 2 and message in refused.err and "Traceback" not in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_out_below_a_file(tmp_path, dlkd):
    (tmp_path / "file").write_text("")
    refused = dlkd("quickstart", "--out", tmp_path / "file" / "run")
    assert refused.status == 2 and refused.err.startswith("dlkd: error: could not write")
    assert (tmp_path / "file").read_text() == ""
