"""``--quiet`` and ``--json``: the same work and exit codes, and on the screen what was asked for."""

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from dlkd.cli.commands import Command
from dlkd.cli.output import json_value, run_and_say
from dlkd.errors import UserError
from dlkd.quiet import is_quiet, quietly


def only_json(done):
    """The one object on standard output."""
    assert done.status == 0, done.err
    return json.loads(done.out, parse_constant=pytest.fail)


def only_remarks(text):
    assert all(line.startswith(("note:", "warning:")) for line in text.splitlines()), text


@pytest.fixture(scope="module")
def run(tmp_path_factory, dlkd_process, distill):
    """A real command with both options, and the folder it made."""
    out = tmp_path_factory.mktemp("runs") / "student"
    done = dlkd_process(*distill(out, "--json", "--data.noise", 0.2))
    return out, done


def test_distill_json(run):
    out, done = run
    assert only_json(done) == json.loads((out / "results.json").read_text())
    assert "Preflight" in done.err and "epoch 1/1" in done.err


def test_distill_quiet(dlkd_process, distill, run, tmp_path):
    done = dlkd_process(*distill(tmp_path / "run", "--quiet", "--data.noise", 0.2))
    assert done.status == 0 and done.err == ""
    only_remarks(done.out)
    # What the table of the preflight marks is said all the same.
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    notes = [f for f in card["preflight"]["findings"] if f["verdict"] == "note"]
    assert notes and all(f"note: {note['what']}: " in done.out for note in notes)


def test_evaluate(dlkd, run, tmp_path):
    told = ("evaluate", "--weights", run[0])
    loud, quiet, found = dlkd(*told), dlkd(*told, "--quiet"), dlkd(*told, "--json")
    assert "│ accuracy" in loud.out and quiet.status == 0 and quiet.err == ""
    only_remarks(quiet.out)
    assert f"{only_json(found)['accuracy']:.4g}" in loud.out and "│ accuracy" in found.err
    both = dlkd(*told, "--json", "--quiet")
    assert both.out == found.out
    only_remarks(both.err)


def test_columns_are_summed_up(dlkd, teacher, tmp_path):
    out = tmp_path / "difficulty.csv"
    told = ("difficulty", "--teacher.weights", teacher, "--data.per_class", 20, "--device", "cpu", "--out", out)
    found = only_json(dlkd(*told, "--json"))
    assert found["rows"] == 200 and found["files"] == [str(out), str(out.with_suffix(".html"))]
    assert {"id", "distance", "level"} <= set(found["columns"]) and 0 < found["means"]["distance"] < 1.42
    assert all(Path(file).is_file() for file in found["files"])
    done = dlkd(*told, "--quiet", "--overwrite")
    only_remarks(done.out)


def test_store_and_methods(dlkd, distill, tmp_path):
    store = tmp_path / "store"
    told = distill(tmp_path / "none", "--store", store)
    built = only_json(dlkd("store", "build", *told[1:], "--json"))
    assert built["store"] == str(store) and built["shards_made"] > 0
    again = dlkd("store", "build", *told[1:], "--quiet")
    only_remarks(again.out)
    assert only_json(dlkd("store", "verify", "--store", store, "--json"))["shards"] > built["shards_made"]  # plain ones
    about = only_json(dlkd("store", "info", "--store", store, "--json"))["parts"]["plain"]
    assert about["classes"] == 10 and about["whole_views"] == built["views"] and about["storage"]["dtype"] == "fp16"
    repaired = only_json(dlkd("store", "repair", "--store", store, "--json"))
    assert repaired["deleted"] == [] and repaired["shards_made"] == 0
    assert set(only_json(dlkd("methods", "--json"))) >= {"kd", "dlkd"}
    assert only_json(dlkd("methods", "--name", "dlkd+zscore", "--json"))["settings"]


def test_predict(dlkd, run, tmp_path, photos):
    told = ("predict", run[0], "--images", photos / "zero")
    lines = dlkd(*told).out
    assert dlkd(*told, "--quiet").out == lines and len(lines.splitlines()) == 20
    done = dlkd(*told, "--json")
    assert done.status == 2 and done.out == "" and "--out FILE with --json" in done.err
    out = tmp_path / "answers.csv"
    assert only_json(dlkd(*told, "--out", out, "--json")) == {"pictures": 20, "unread": 0}
    assert dlkd(*told, "--out", out, "--overwrite", "--quiet").out == ""


def test_compare_in_processes_of_its_own(dlkd_process, teacher, tmp_path):
    small = ("--run.epochs", 1, "--run.data.per_class", 20, "--run.engine.tensorboard", "false", "--run.device", "cpu")
    told = ("compare", "--methods", "[kd]", "--seeds", 2, "--run.teacher.weights", teacher, *small, "--workers", 2)
    done = dlkd_process(*told, "--run.student.name", "resnet8x0.5", "--out", tmp_path / "out", "--json", "--quiet")
    assert only_json(done) == json.loads((tmp_path / "out" / "results.json").read_text())
    only_remarks(done.err)
    assert len(list((tmp_path / "out").rglob("student.safetensors"))) == 2


def test_what_other_processes_print_is_no_part_of_the_result(tmp_path, own_module):
    """The real standard output, which pytest has in its hands."""
    own_module("some_work", NO)
    code = (
        "from dlkd.cli.commands import Command\nfrom dlkd.cli.output import run_and_say\n"
        "run_and_say(Command('', '', 'some_work:theirs', '', {}), None, {'json'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == {"done": True} and sorted(done.stderr.split()) == ["mine", "theirs"]


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_errors_are_the_same(dlkd, option):
    done = dlkd("evaluate", "--weights", "none", option)
    assert done == dlkd("evaluate", "--weights", "none")
    assert done.status == 2 and done.out == "" and done.err.count("\n") == 1


def test_json_values():
    @dataclass
    class Page:
        path: Path
        value: float

    given = {
        "nan": float("nan"),
        1: np.float32("inf"),
        "array": np.array([[1.5, np.nan]]),
        "tensor": torch.tensor([1, 2]),
        "one": torch.tensor(2.0),
        "int": np.int64(3),
        "true": np.bool_(True),
        "page": Page(Path("a/b"), -np.inf),
        "more": (None, "text", {4}),
    }
    found = json.loads(json.dumps(json_value(given), allow_nan=False))
    assert found == {
        "nan": None,
        "1": None,
        "array": [[1.5, None]],
        "tensor": [1, 2],
        "one": 2.0,
        "int": 3,
        "true": True,
        "page": {"path": "a/b", "value": None},
        "more": [None, "text", [4]],
    }


NO = """
from dlkd.errors import UserError, Verdict
def no(_):
    print("progress")
    raise Verdict({"ok": False})
def bad(_):
    raise UserError("bad")
def theirs(_):
    print("mine")
    import os
    os.system("echo theirs")
    return {"done": True}
"""


def test_a_no_has_its_result(capsys, own_module):
    own_module("some_work", NO)
    with pytest.raises(SystemExit) as end:
        run_and_say(Command("", "", "some_work:no", "", {}), None, {"json"})
    said = capsys.readouterr()
    assert end.value.code == 1 and json.loads(said.out) == {"ok": False} and said.err == "progress\n"


def test_nothing_is_printed_where_the_work_fails(capsys, own_module):
    own_module("some_work", NO)
    with pytest.raises(UserError):
        run_and_say(Command("", "", "some_work:bad", "", {}), None, {"quiet", "json"})
    assert capsys.readouterr() == ("", "") and not is_quiet()


def test_quietly(capsys):
    with quietly():
        assert is_quiet()
        print("progress\nnote: of this\nnotebook\nwarning: of that")
        print("  epoch 1/2", file=sys.stderr)
        print("half", end="", file=sys.stderr)
        print(" a line", file=sys.stderr)
        print("note: last", end="")
    said = capsys.readouterr()
    assert said.out == "note: of this\nwarning: of that\nnote: last\n" and said.err == "half a line\n"
    assert not is_quiet() and not isinstance(sys.stdout, io.StringIO)


@pytest.mark.parametrize("word", ["quiet", "json"])
@pytest.mark.parametrize("command", [("evaluate", "--weights"), ("report",), ("export",)])
def test_values_of_these_names_are_values(dlkd, tmp_path, command, word):
    """A run may be called so; the options have dashes."""
    refused(dlkd(*command, word, "--out", tmp_path / "out.html"), f" at {word}, but there is nothing")
