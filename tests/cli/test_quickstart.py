"""The real command: the files it leaves, and one line with exit code 2 for every bad input."""

import json
import subprocess
import sys

import pytest


def dlkd(*arguments):
    return subprocess.run([sys.executable, "-m", "dlkd", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "quick"
    done = dlkd("quickstart", "--out", out, "--seeds", 1, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_files_and_table(finished):
    out, printed = finished
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "results.json", "run.json"]
    results = json.loads((out / "results.json").read_text())
    assert [(r["method"], r["teacher"]) for r in results["summary"]["table"]] == [
        ("no teacher", "none"),
        *((m, t) for t in ("clean", "noisy") for m in ("teacher", "probe", "KD", "DLKD")),
    ]
    assert "oracle" in printed and "One test image is worth 0.19 points" in printed
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and "http" not in page and 'src="/' not in page


def test_one_seed_shows_no_difference(finished):
    comparisons = json.loads((finished[0] / "results.json").read_text())["summary"]["comparisons"]
    assert all(c["sd"] is None and not c["exceeds_spread"] for c in comparisons)


def test_a_run_is_not_replaced_unasked(finished):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    refused = dlkd("quickstart", "--out", out)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    assert (out / "results.json").read_bytes() == before


def test_overwrite_never_empties_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    refused = dlkd("quickstart", "--out", tmp_path, "--overwrite")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", 0, "at least 1"),
        ("--epochs", 0, "at least 1"),
        ("--seed", -1, "at least 0"),
        ("--noise", 1.5, "[0, 1]"),
        ("--sparsity", 1, "[0, 1)"),
        ("--noise", "much", "float"),
        ("--nois", 0.1, "nois"),
    ],
)
def test_bad_options(tmp_path, option, value, message):
    refused = dlkd("quickstart", "--out", tmp_path / "new", option, value)
    assert refused.returncode == 2 and message in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "new").exists()


def test_out_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    refused = dlkd("quickstart", "--out", tmp_path / "file" / "run")
    assert refused.returncode == 2 and refused.stderr.startswith("dlkd: error: could not write")
