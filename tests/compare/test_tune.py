import json
import math

import optuna
import pytest
import yaml

from dlkd.compare.study import CompareOptions, plan
from dlkd.pages.plain_yaml import read_plain

SPACE = "{kd-2: {loss.temperature: {low: 1, high: 8}, loss: {kd_weight: [0.9, 3, 9]}}}"
METHODS = "{ce: , kd-2: {method: kd, loss: {temperature: 2}}}"


def tuned(small, out, *more):
    _, *arguments = small(out, "--conditions", "{clean: , noisy: {data.noise: 0.4}}", methods=METHODS)
    return ("tune", *arguments, "--space", SPACE, *more)


@pytest.fixture(scope="module")
def done(tmp_path_factory, good, small):
    out = tmp_path_factory.mktemp("tune") / "out"
    return out, good(*tuned(small, out, "--trials", 3))


def trials(folder):
    found = json.loads((folder / "results.json").read_text())
    return {row["method"]: row for row in found["methods"]}


def test_files(done):
    assert {p.name for p in done[0].iterdir()} == {"cells", "stores", "results.json", "tuned.yaml", "table.md"}


def test_the_first_trial_is_the_method_as_it_stands(done):
    rows = trials(done[0])
    assert rows["kd-2"]["trials"][0]["settings"] == {"loss.temperature": 2.0, "loss.kd_weight": 0.9}
    assert len(rows["kd-2"]["trials"]) == 3 and len(rows["ce"]["trials"]) == 1


def test_the_search_is_that_of_the_same_sampler(done):
    """Asked and told apart from the command, with what the runs themselves left."""
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=5, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({"loss.temperature": 2.0, "loss.kd_weight": 0.9})
    space = {
        "loss.temperature": optuna.distributions.FloatDistribution(1, 8, log=True),
        "loss.kd_weight": optuna.distributions.CategoricalDistribution([0.9, 3, 9]),
    }
    for number, trial in enumerate(trials(done[0])["kd-2"]["trials"]):
        asked = study.ask(space)
        given = trial["settings"]
        assert given["loss.kd_weight"] == asked.params["loss.kd_weight"]
        assert given["loss.temperature"] == pytest.approx(asked.params["loss.temperature"], rel=5e-3)
        accuracies = {}
        for place in ("clean", "noisy"):
            folder = done[0] / "cells" / place / f"kd-2.{number}" / "seed0"
            run = yaml.safe_load((folder / "config.yaml").read_text())["loss"]
            assert (run["temperature"], run["kd_weight"]) == (given["loss.temperature"], given["loss.kd_weight"])
            accuracies[place] = json.loads((folder / "results.json").read_text())["held_out"]["accuracy"]
        assert trial["held_out"] == accuracies and math.isclose(trial["mean"], sum(accuracies.values()) / 2)
        study.tell(asked, trial["mean"])


def test_the_page_holds_the_best_of_each(done):
    methods = read_plain(done[0] / "tuned.yaml")["methods"]
    row = trials(done[0])["kd-2"]
    best = max(row["trials"], key=lambda trial: trial["mean"])["settings"]
    loss = {"temperature": best["loss.temperature"], "kd_weight": best["loss.kd_weight"]}
    assert methods == {"ce": {"method": "ce"}, "kd-2": {"method": "kd", "loss": loss}}
    cells = plan(CompareOptions(methods=methods, seeds=1, run={"teacher": {"weights": "t"}}))
    assert [cell.method for cell in cells] == ["ce", "kd-2"] and cells[1].options.loss.kd_weight == loss["kd_weight"]


def test_a_larger_budget_goes_on(done, good, small):
    before = trials(done[0])["kd-2"]["trials"]
    said = good(*tuned(small, done[0], "--trials", 4)).out
    assert [f"trial {k} of 4: {n} cells, 0 to be run" in said for k, n in ((1, 4), (2, 2), (3, 2))] == [True] * 3
    after = trials(done[0])["kd-2"]["trials"]
    assert after[:3] == before and len(after) == 4


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{dkd: {loss.temperature: [1, 2]}}", "some of --methods"),
        ("{kd-2: {loss.temperature: {low: 3, high: 8}}}", "tried first"),
        ("{kd-2: {loss.temperature: [1, 4]}}", "tried first"),
        ("{kd-2: {loss.temperature: {low: 8, high: 1}}}", "below high"),
        ("{kd-2: {loss.temperature: 3}}", "list to choose from"),
        ("{kd-2: {loss.t_easy: [1, 2]}}", "options of kd-2"),
        ("{kd-2: {optim.lrr: [1, 2]}}", "options of kd-2"),
    ],
)
def test_a_space_that_is_none(dlkd, small, refused, tmp_path, space, words):
    refused(dlkd(*tuned(small, tmp_path / "out"), "--space", space), words)
    assert not (tmp_path / "out").exists()


def test_a_trial_that_cannot_be_run_is_not_the_best(dlkd, small, tmp_path):
    _, *arguments = small(tmp_path / "out", methods="[ce]")
    space = "{ce: {optim.lr: [0.1, 1.0e+30]}}"
    found = dlkd("tune", *arguments, "--space", space, "--trials", 4)
    assert found.status == 0, found.err
    row = trials(tmp_path / "out")["ce"]
    bad = [trial for trial in row["trials"] if trial["settings"]["optim.lr"] == 1e30]
    assert bad and all(trial["mean"] is None and trial["failed"] for trial in bad)
    assert row["trials"][row["best"]]["settings"] == {"optim.lr": 0.1}
