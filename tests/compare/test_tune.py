import json
import math
import shutil
from pathlib import Path
from statistics import mean

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


def nll(folder, method):
    """Of the held-out images, both conditions."""
    files = [folder / "cells" / place / method / "seed0" / "results.json" for place in ("clean", "noisy")]
    return [json.loads(file.read_text())["held_out"]["nll"] for file in files]


def test_files(done):
    assert {p.name for p in done[0].iterdir()} == {
        *("cells", "stores", "results.json", "tuned.yaml", "table.md", "asked.json")
    }


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
            assert trial["nll"] == pytest.approx(mean(nll(done[0], f"kd-2.{number}")))
        assert trial["held_out"] == accuracies and math.isclose(trial["mean"], sum(accuracies.values()) / 2)
        study.tell(asked, trial["mean"])


def test_the_page_holds_the_best_of_each(done):
    methods = read_plain(done[0] / "tuned.yaml")["methods"]
    row = trials(done[0])["kd-2"]
    best = max(row["trials"], key=lambda trial: (trial["mean"], -trial["nll"]))["settings"]
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
    space = "{ce: {optim.lr: [0.1, 1.0e+15]}}"
    found = dlkd("tune", *arguments, "--space", space, "--trials", 4)
    assert found.status == 0, found.err
    row = trials(tmp_path / "out")["ce"]
    bad = [trial for trial in row["trials"] if trial["settings"]["optim.lr"] == 1e15]
    assert bad and all(trial["mean"] is None and trial["failed"] for trial in bad)
    assert row["trials"][row["best"]]["settings"] == {"optim.lr": 0.1}


def test_tries_come_after_the_settings_as_they_stand(good, small, tmp_path):
    """And before what is drawn, which is as it would have been without them. Nothing has to be run for it."""
    tries = ("--tries", "{kd-2: [{loss.kd_weight: 9}, {loss: {temperature: 4}}]}")
    good(*tuned(small, tmp_path / "with", "--collect", "--trials", 4, *tries))
    found = [trial["settings"] for trial in trials(tmp_path / "with")["kd-2"]["trials"]]
    assert found[:3] == [{"loss.temperature": t, "loss.kd_weight": w} for t, w in ((2.0, 0.9), (2.0, 9), (4.0, 0.9))]
    good(*tuned(small, tmp_path / "without", "--collect", "--trials", 2))
    assert found[3] == trials(tmp_path / "without")["kd-2"]["trials"][1]["settings"]


def test_what_is_given_is_tried_to_the_last_digit(good, small, tmp_path):
    """What is drawn has three; and trials that a start has asked for are asked for again as they were."""
    out, methods = tmp_path / "out", "{kd-2: {method: kd, loss: {temperature: 2.0625, kd_weight: 0.01875}}}"
    space = "{kd-2: {loss.temperature: {low: 1, high: 8}, loss.kd_weight: {low: 0.001, high: 1}}}"
    tries = "{kd-2: [{loss.kd_weight: 0.123456}]}"
    command = ("tune", *small(out, "--collect", "--space", space, "--tries", tries, methods=methods)[1:])
    good(*command, "--trials", 4)
    found = [trial["settings"] for trial in trials(out)["kd-2"]["trials"]]
    assert found[0] == {"loss.temperature": 2.0625, "loss.kd_weight": 0.01875}
    assert found[1] == {"loss.temperature": 2.0625, "loss.kd_weight": 0.123456}
    assert all(value == float(f"{value:.3g}") for settings in found[2:] for value in settings.values())
    asked = json.loads((out / "asked.json").read_text())
    asked["asked"]["kd-2"][0] = rounded = {"loss.temperature": 2.06, "loss.kd_weight": 0.0187}
    (out / "asked.json").write_text(json.dumps(asked))  # as a start left it that rounded these, too
    good(*command, "--trials", 5)
    again = [trial["settings"] for trial in trials(out)["kd-2"]["trials"]]
    assert again[:4] == [rounded, *found[1:]] and len(again) == 5


@pytest.mark.parametrize(
    ("tries", "words"),
    [
        ("{kd-2: [{loss.kd_weight: 4}]}", "to lie within its --space, but got 4 for loss.kd_weight"),
        ("{kd-2: [{loss.temperature: 9}]}", "to lie within its --space, but got 9"),
        ("{kd-2: [{loss.temperature: hot}]}", "to lie within its --space, but got 'hot'"),
        ("{kd-2: [{loss.temperature: true}]}", "to lie within its --space, but got True"),
        ("{kd-2: [{optim.lr: 1}]}", "to name options of its --space, but got optim.lr"),
        ("{ce: [{optim.lr: 1}]}", "methods that have a --space, but got ce"),
        ("{kd-2: {loss.temperature: 3}}", "--tries to be a group of names, each a list, each a group of options"),
        ("{kd-2: [3]}", "--tries to be a group of names, each a list, each a group of options"),
        ("{kd-2: [{}, {}]}", "--trials to be above the 2 tries of kd-2"),
    ],
)
def test_tries_that_are_none(dlkd, small, refused, tmp_path, tries, words):
    refused(dlkd(*tuned(small, tmp_path / "out", "--trials", 2, "--tries", tries)), words)
    assert not (tmp_path / "out").exists()


def test_tries_one_by_one(dlkd, small, refused, tmp_path):
    """Behind a dot they do not pass the parser."""
    done = dlkd(*tuned(small, tmp_path / "out", "--trials", 2, "--tries.kd-2", "{loss.temperature: 3}"))
    refused(done, "a list of groups of options as --tries.kd-2")


def test_a_trial_that_failed_and_is_mended_changes_none_that_is_finished(dlkd, small, good, tmp_path):
    """A sampler that now knows of it would go another way, from the sixth trial on."""
    _, *arguments = small(tmp_path / "out", methods="[ce]")
    command = ("tune", *arguments, "--space", "{ce: {loss.ce_weight: {low: 0.5, high: 2.0}}}", "--trials")
    blocked = tmp_path / "out" / "cells" / "ce.1" / "seed0"
    blocked.mkdir(parents=True)
    (blocked / "mine").touch()
    good(*command, 7)
    before = trials(tmp_path / "out")["ce"]["trials"]
    assert before[1]["mean"] is None and len(before) == 7
    shutil.rmtree(blocked)
    good(*command, 8)
    now = trials(tmp_path / "out")["ce"]["trials"]
    assert [trial["settings"] for trial in now[:7]] == [trial["settings"] for trial in before]
    assert now[1]["mean"] is not None and now[7]["settings"] not in [trial["settings"] for trial in before]
    assert [trial["mean"] for trial in now[2:7]] == [trial["mean"] for trial in before[2:]]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{optim.momentum: {low: 0, high: 5}}", "momentum"),
        ("{loss.ce_weight: [1.0, [2.0]]}", "words or numbers"),
        ("{data.name: [digits, 2024-01-01]}", "words or numbers"),
        ("{loss.ce_weight: {low: 0.5, high: 1.0e+300}}", "{low: 1, high: 8}"),
    ],
)
def test_values_that_no_run_takes_are_told_before_the_first(dlkd, small, refused, tmp_path, space, words):
    _, *arguments = small(tmp_path / "out", methods="[ce]")
    refused(dlkd("tune", *arguments, "--space.ce", space, "--trials", 4), words)
    assert not (tmp_path / "out").exists()


def test_folders_of_others(dlkd, small, refused, teacher, tmp_path, done):
    """Their files have the same names."""
    run = Path(shutil.copytree(teacher, tmp_path / "run"))
    tune, compare = (small(run, "--collect"), ("tune", *small(run)[1:]))
    for command in (tune, compare):
        refused(dlkd(*command), "is that of train; give another --out")
    (run / "results.json").unlink()
    refused(dlkd(*compare), "is that of train")
    refused(dlkd(*small(done[0], "--collect")), "a folder of dlkd compare", "is that of tune")
