"""Which cells a comparison has, what they share, and what is refused before one of them is run."""

import re
from itertools import product
from pathlib import Path

import pytest

from dlkd.compare.study import CompareOptions, StudyOptions, plan
from dlkd.errors import UserError

TEACHER = {"teacher": {"weights": "teacher"}}


def planned(**options):
    return plan(StudyOptions(**{"out": Path("study"), "run": TEACHER, **options}))


def stores(cells):
    """The name of the store of each row of the first seed, None where there is none."""
    return {c.row: None if c.options.store is None else c.options.store.name for c in cells if c.seed == cells[0].seed}


def test_every_combination_once_seed_by_seed():
    cells = planned(
        methods=["kd", "ce"],
        conditions={"noisy": {"data": {"noise": 0.4}}, "clean": None},
        pairs={"small": {"student.name": "resnet8"}, "large": {"student": {"name": "resnet20"}}},
        seeds=[7, 2],
    )
    wanted = list(product((7, 2), ("small", "large"), ("noisy", "clean"), ("kd", "ce")))
    assert [(c.seed, c.pair, c.condition, c.method) for c in cells] == wanted
    for c in cells:
        run = c.options
        assert c.row == f"{c.pair}/{c.condition}/{c.method}" and c.place == f"{c.pair}/{c.condition}"
        assert (run.seed, run.method) == (c.seed, c.method)
        assert run.student.name == {"small": "resnet8", "large": "resnet20"}[c.pair]
        assert run.data.noise == {"noisy": 0.4, "clean": 0.0}[c.condition]
        assert run.out == Path("study/cells") / c.row / f"seed{c.seed}"
        assert (run.resume, run.overwrite, run.score_on) == (False, False, "held_out")
    assert len({c.options.out for c in cells}) == len(cells)
    # Those that share views stand together, so that one process has a store to itself.
    groups = [c.group for c in cells]
    assert groups == sorted(groups, key=groups.index)


def test_names_of_what_there_is_only_one_of_are_left_out():
    assert [c.row for c in planned(methods=["ce"], seeds=1)] == ["ce"]
    (cell,) = planned(methods=["ce"], seeds=1, conditions={"noisy": None})
    assert (cell.row, cell.place, cell.options.out) == ("noisy/ce", "noisy", Path("study/cells/noisy/ce/seed0"))
    assert planned(methods=["ce"], seeds=1)[0].place == "all"


def test_what_counts_of_recipe_run_pair_condition_and_method(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 1\noptim: {lr: 0.1, momentum: 0.1, batch_size: 1}\nengine: {report: true}\n")
    cells = planned(
        recipe=str(recipe),
        run={**TEACHER, "epochs": 2, "optim.batch_size": 2},
        pairs={"p": {"epochs": 3, "optim.lr": 0.3}},
        conditions={"c": {"epochs": 4, "optim": {"momentum": 0.4}}},
        methods={"ce": None, "mine": {"method": "ce", "epochs": 5}},
        seeds=1,
    )
    first, mine = (c.options for c in cells)
    assert (first.epochs, mine.epochs, mine.method) == (4, 5, "ce")
    assert (first.optim.lr, first.optim.momentum, first.optim.batch_size) == (0.3, 0.4, 2)
    # What only the reader of one run wants is left out unless it is asked for.
    assert (first.engine.report, first.engine.tensorboard, first.engine.evaluate_every) == (True, False, 0)


def test_stores_are_shared_by_cells_of_the_same_views_alone():
    kd, dlkd = {"method": "kd"}, {"method": "dlkd"}
    methods = {
        "ce": None,
        "kd": None,
        "dlkd": None,
        "entropy": {**dlkd, "loss.score": "entropy"},
        "hot": {**kd, "loss.temperature": 8},
        "level": {**dlkd, "probe.reference": 5},
        "short": {**kd, "epochs": 3},
        "wide": {**kd, "student.name": "resnet8x4"},
        "noisy": {**kd, "data.noise": 0.4},
        "few": {**kd, "data.train_per_class": 9},
        "sparse": {**dlkd, "probe.sparsity": 0.5},
        "cut": {**kd, "views.mixing": "cutmix"},
        "tau": {**dlkd, "loss.distance_temperature": 4},
        "fp32": {**kd, "storage.dtype": "fp32"},
        "other": {**kd, "teacher.weights": "another"},
        "live": {**dlkd, "probe.norm": "batch"},
        "auto": {**kd, "probe.sparsity": "auto"},
        "auto-noisy": {**kd, "probe.sparsity": "auto", "data.noise": 0.4},
    }
    found = stores(planned(seeds=2, methods=methods))
    assert found.pop("ce") is None and found.pop("live") is None
    together = [name for name, store in found.items() if store == found["kd"]]
    assert together == ["kd", "dlkd", "entropy", "hot", "level", "short", "wide", "noisy"]
    # The others each have their own; noise counts where the probe was chosen on labels.
    apart = [store for name, store in found.items() if name not in together]
    assert len(apart) == len(set(apart)) == 8


def test_a_store_is_of_one_seed():
    cells = planned(methods=["kd"], seeds=[0, 5])
    names = [c.options.store.name for c in cells]
    assert [n.rpartition("-")[2] for n in names] == ["seed0", "seed5"] and len({n[:12] for n in names}) == 1
    assert {c.options.store.parent for c in cells} == {Path("study/stores")}


def test_what_one_method_needs_of_a_store_all_of_them_keep():
    for method, kept in (("dlkd", False), ("r2kd", True), ("dlkd+r2kd", True)):
        cells = planned(methods=["ce", "kd", method], seeds=1)
        assert [c.options.storage.probe_logits for c in cells] == [False, kept, kept]  # there is no store for ce
        assert cells[1].options.store == cells[2].options.store
        for c in cells:
            c.options.check()


def test_methods_that_keep_no_store_are_given_none():
    """What inner layers return is not kept, so these ask the teacher itself."""
    found = stores(planned(methods=["kd", "fitnet", "kd+at"], seeds=1))
    assert found["kd"] is not None and found["fitnet"] is None and found["kd+at"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"run": {"epochs": "many"}}, ("--epochs", "a whole number", "many", "(cells kd)")),
        ({"run": {"epohcs": 3}}, ("epohcs", "(cells kd)")),
        ({"run": {"epochs": 0}}, ("--epochs", "at least 1", "(cells kd)")),
        ({"methods": {"kd": None, "mine": None}}, ("mine", "(cells mine)")),
        ({"conditions": {"a": None, "b": {"data": {"noise": 2}}}}, ("--data.noise", "[0, 1]", "(cells b/kd)")),
        ({"pairs": {"p": {"student": 3}}, "conditions": {"c": None}}, ("student", "(cells p/c/kd)")),
        ({"methods": {"cold": {"method": "kd", "loss.t_easy": 3}}}, ("t_easy", "(cells cold)")),
        ({"run": {"out": "elsewhere"}}, ("no --out", "(cells kd)")),
        ({"conditions": {"c": {"seed": 4}}}, ("no --seed", "(cells c/kd)")),
        ({"methods": {"kd": {"store": "mine"}}}, ("no --store", "(cells kd)")),
        ({"run": {"score_on": "test"}}, ("--score_on", "(cells kd)")),
    ],
)
def test_what_no_run_would_take_is_told_with_the_cell(options, words):
    with pytest.raises(UserError) as told:
        planned(**{"methods": ["kd"], **options})
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "--seeds"),
        ({"seeds": []}, "--seeds"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": [-1]}, "--seeds"),
        ({"methods": []}, "at least one of --methods"),
        ({"methods": {}}, "at least one of --methods"),
        ({"methods": ["kd", "kd"]}, "once"),
        ({"methods": {"a/b": {"method": "kd"}}}, "--methods, but got 'a/b'"),
        ({"methods": {"<b>": {"method": "kd"}}}, "--methods, but got '<b>'"),
        ({"conditions": {"..": None}}, "--conditions, but got '..'"),
        ({"conditions": {"": None}}, "--conditions, but got ''"),
        ({"pairs": {"p" * 61: None}}, "--pairs, but got"),
        ({"workers": 0}, "--workers"),
        ({"ours": ["kd", "dkd"]}, "--ours to be some of --methods, but got dkd"),
    ],
)
def test_options_of_the_comparison_itself(options, words):
    options = {"methods": ["kd"], "out": Path("study"), "run": TEACHER, **options}
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        plan(CompareOptions(**options))


def test_a_baseline_that_is_no_method_is_refused():
    """By its name alone: without --baseline there may be no kd, and nothing is held against it."""
    with pytest.raises(UserError, match="--baseline"):
        plan(CompareOptions(Path("study"), run=TEACHER, methods=["kd", "ce"], baseline="kdd"))
    plan(CompareOptions(Path("study"), run=TEACHER, methods=["ce"]))


def test_ours_by_default():
    options = CompareOptions(Path("study"), methods=["ce", "dlkd", "dlkd+dkd", "dlkd-robust", "kd"])
    assert options.our_methods == ["dlkd", "dlkd+dkd", "dlkd-robust"]
    assert CompareOptions(Path("study"), methods=["ce", "dlkd"], ours=[]).our_methods == []


@pytest.mark.parametrize("option", ["methods", "conditions", "pairs"])
def test_a_row_is_told_by_what_it_is_of(option):
    """Two cells are never kept in one folder, whatever their names: what stands for no condition is no name of one."""
    with pytest.raises(UserError, match="another name than all"):
        planned(**{option: {"ce": None, "all": {"method": "ce"}}}, seeds=2)


def test_one_value_on_the_command_line_leaves_the_rest_of_a_page(dlkd, tmp_path, refused):
    """Whose names may hold dots, as 0.5 does. The wrong option tells which cells came out."""
    page = tmp_path / "study.yaml"
    page.write_text("methods: {ce: , kd-0.5: {method: kd, loss: {temperature: 0.5}}}\n")
    given = ("compare", "--out", tmp_path / "out", "--config", page, "--seeds", 1)
    refused(dlkd(*given, "--methods.ce.optim.lr", "high"), "--optim.lr", "a number", "(cells ce)")
    refused(dlkd(*given, "--methods.ce.optim.lr", 0.1, "--run.epochs", 0), "--epochs", "(cells ce)")
    # A list of names becomes a page of them.
    listed = ("compare", "--out", tmp_path / "out", "--methods", "[kd, ce]", "--methods.ce.epochs", 0)
    refused(dlkd(*listed), "--epochs", "(cells ce)")
    assert not (tmp_path / "out").exists()


def test_a_dotted_name_and_one_value_on_the_command_line(dlkd, tmp_path, refused):
    page = tmp_path / "study.yaml"
    page.write_text("methods: {kd-0.5: {method: kd, epochs: 0}, ce: }\n")
    given = ("compare", "--out", tmp_path / "out", "--config", page, "--methods.ce.epochs", 1)
    refused(dlkd(*given), "--epochs to be at least 1", "(cells kd-0.5)")


@pytest.mark.parametrize(
    ("page", "option"),
    [
        ("run: {data.name: 'os:getcwd'}", "run.data.name"),
        ("run: {student: {name: 'os:getcwd'}}", "run.student.name"),
        ("conditions: {c: {teacher.name: 'os:getcwd'}}", "conditions.c.teacher.name"),
        ("methods: {mine: {method: 'kd+os:getcwd'}}", "methods.mine.method"),
        ("recipe: inner.yaml", "student.name"),
    ],
)
def test_code_that_only_a_page_names_is_not_run(dlkd, tmp_path, monkeypatch, refused, page, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.yaml").write_text("student: {name: 'os:getcwd'}\n")
    (tmp_path / "study.yaml").write_text(page)
    refused(dlkd("compare", "--config", "study.yaml", "--out", "out"), option, "on the command line")
    assert not (tmp_path / "out").exists()


def test_the_page_in_the_docs_can_be_planned(tmp_path, dlkd, refused):
    """The study of docs/compare.md, as it stands; the wrong epochs tell that everything else was understood."""
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    page = tmp_path / "study.yaml"
    page.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    given = ("--config", page, "--out", tmp_path / "out", "--conditions.noisy.epochs", 0)
    refused(dlkd("compare", *given), "--epochs", "(cells noisy/none)")


@pytest.mark.parametrize("option", ["--methods.kd", "--conditions.noisy", "--pairs.small"])
def test_a_value_where_a_page_belongs(dlkd, tmp_path, refused, option):
    refused(dlkd("compare", "--out", tmp_path / "out", option, 5), f"expected options as {option}, but got 5")
