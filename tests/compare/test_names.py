"""What a study may be called, where it may lie, and who has the last word on an option."""

import pytest
import yaml

from dlkd.compare.study import CompareOptions, plan


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            {"conditions": {0.4: None}},
            "text as a name in --conditions, but got 0.4; put it in quotes",
        ),
        ({"conditions": {False: None}}, "text as a name in --conditions, but got False"),
        ({"methods": {1: {"method": "ce"}}}, "text as a name in --methods, but got 1"),
        ({"pairs": {"a/b": None}}, "letters, digits, _ + . or - as a name in --pairs"),
        ({"seeds": 10**20}, "--seeds to be a number of 1 to 10000"),
        ({"seeds": 0}, "--seeds to be a number of 1 to 10000"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": [-1]}, "different seeds in [0, 2⁶³)"),
        ({"seeds": [2**63]}, "different seeds in [0, 2⁶³)"),
    ],
)
def test_bad_pages(dlkd, refused, tmp_path, page, words):
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(page))
    refused(dlkd("compare", "--config", tmp_path / "page.yaml", "--out", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ledger", [".", "", "/", "out/results.json", "out/table.md"])
def test_a_ledger_that_would_be_lost(dlkd, small, refused, tmp_path, monkeypatch, ledger):
    """Before the first cell, and not after hours of them."""
    monkeypatch.chdir(tmp_path)
    refused(dlkd(*small("out", "--final", "--ledger", ledger)), "expected --ledger to")
    assert not (tmp_path / "out").exists()


def test_a_ledger_behind_a_link(good, small, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    good(*small(tmp_path / "out", "--seeds", 1, "--final", "--ledger", tmp_path / "linked" / "ledger.jsonl"))
    assert len((tmp_path / "real" / "ledger.jsonl").read_text().splitlines()) == 1


def test_the_command_line_has_the_last_word(tmp_path):
    """Also over a recipe that writes its options with dots."""
    recipe = {"engine.precision": "bf16", "optim": {"momentum": 0.5}, "optim.lr": 0.1, "epochs": 3}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = {"engine": {"precision": "fp32"}, "optim.lr": 0.2}
    options = CompareOptions(recipe=str(tmp_path / "recipe.yaml"), run=run, methods=["ce"], seeds=1)
    (cell,) = plan(options)
    assert (cell.options.engine.precision, cell.options.optim.lr) == ("fp32", 0.2)
    assert (cell.options.optim.momentum, cell.options.epochs) == (0.5, 3)


@pytest.mark.parametrize("group", ["data: digits", "data: 5", "optim:\n  - lr: 0.5", "views: [mixup]", "engine: true"])
def test_a_group_that_is_none_is_not_passed_over(dlkd, refused, tmp_path, group):
    (tmp_path / "recipe.yaml").write_text(group)
    one = {"data": "root", "optim": "momentum", "views": "pad", "engine": "threads"}[group.partition(":")[0]]
    option = f"{group.partition(':')[0]}.{one}"
    given = ("--recipe", tmp_path / "recipe.yaml", f"--run.{option}", 1)
    refused(dlkd("compare", *given, "--out", tmp_path / "out"), "to be a group of options, but got")
    refused(dlkd("train", "--config", tmp_path / "recipe.yaml", f"--{option}", 1), "to be a group of options, but got")


def test_the_same_option_twice_in_a_group(dlkd, refused):
    refused(dlkd("compare", "--run", "{epochs: 2, epochs: 3}"), "'epochs' stands twice in the same group")


def test_an_option_without_its_name(dlkd, refused):
    refused(dlkd("compare", "--run.", 5), "an option after --run., but got none")
