"""``dlkd methods``, its page, and every method once through the command line."""

import json
from pathlib import Path
from typing import get_args

import pytest

from dlkd.difficulty import ScoreName
from dlkd.methods import METHODS, resolve_loss
from dlkd.methods.registry import LossOptions

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_what_the_command_prints(dlkd):
    done = dlkd("methods", "--format", "markdown")
    assert done.status == 0 and done.out == PAGE.read_text()


def test_table_and_one_composition(dlkd):
    listed = dlkd("methods").out
    assert all(f"│ {name}" in listed for name in METHODS)
    shown = dlkd("methods", "--name", "dlkd+zscore").out
    assert shown.rstrip().endswith(", ".join(f"{k} {v}" for k, v in resolve_loss("dlkd+lskd", LossOptions()).items()))


def test_what_does_not_go_together(dlkd):
    done = dlkd("methods", "--name", "dkd+nkd")
    assert done.status == 2 and done.err.count("\n") == 1 and "each has a divergence of its own" in done.err


@pytest.mark.parametrize("name", [*METHODS, "dlkd+dkd+zscore", "dlkd+nkd", "dlkd+dist", "dlkd+mlkd", "mlkd+zscore"])
def test_every_method_trains_a_student(good, distill, tmp_path, name):
    good(*distill(tmp_path / "run", "--method", name, "--epochs", 2, "--views.mixing", "mixup", "--force"))
    assert (tmp_path / "run" / "student.safetensors").is_file()


@pytest.mark.parametrize("score", get_args(ScoreName))
def test_any_difficulty_can_drive_the_temperature(good, distill, tmp_path, score):
    done = good(*distill(tmp_path / "run", "--loss.score", score, "--views.mixing", "mixup", "--force"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    tenths = [row["decile"] for row in results["by_level"] if "decile" in row]
    assert results["method"]["score"] == score and tenths == sorted(set(tenths)) and set(tenths) <= set(range(1, 11))
    assert len(tenths) > 1 and sum(row["samples"] for row in results["by_level"] if "decile" in row) == 359, done.out
    # A score of the teacher alone asks no probe.
    assert bool(results["teacher"]["probes"]) == (score in ("distance", "js"))


def test_a_score_without_a_largest_value_is_ranked(dlkd, distill, tmp_path):
    done = dlkd(*distill(tmp_path / "run", "--loss.score", "energy", "--loss.level", "absolute"))
    assert done.status == 2 and "rank or batch" in done.err


def test_function_matching_is_a_recipe(good, distill, tmp_path):
    arguments = list(distill(tmp_path / "run", "--force"))
    good(arguments[0], "--config", "function-matching", *arguments[1:])
    settings = json.loads((tmp_path / "run" / "results.json").read_text())["method"]
    assert settings["ce_weight"] == 0 and settings["temperature"] == 1 and settings["name"] == "kd"
