"""Cells by several processes, stopped, killed and at once: what comes out is what one undisturbed process finds."""

import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from dlkd.compare import work
from dlkd.compare.study import CompareOptions, plan
from dlkd.errors import UserError
from dlkd.files import held

CELLS = 12
PATIENCE = 120
"""Seconds."""


class Done(NamedTuple):
    """How a command ended."""

    out: str
    err: str
    status: int


class Disturbed(NamedTuple):
    """A comparison that was killed, stopped, and gone on with."""

    folder: Path
    workers: list[int]
    begun: set[Path]
    """Cells that were left unfinished by the kill."""
    stopped: Done
    finished: set[Path]
    """Cells that were finished by then."""
    both: list[Done]


def wait_until(happened, process):
    """Look often while the process works."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def finished(out):
    return {p.parent for p in out.glob("cells/*/*/seed*/results.json")}


def begun(out):
    """Cells that have a checkpoint, but no results."""
    return {p.parent for p in out.glob("cells/*/*/seed*/checkpoint.pt")} - finished(out)


def said(text):
    """The cells that a process says it has finished, in order."""
    return re.findall(r"^(\S+), seed (\d+): \d", text, re.MULTILINE)


def workers_of(pid):
    """The processes that a command has started for its cells."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, study, dlkd, dlkd_started):
    """The same comparison by two workers, of which one is killed in the middle of a cell, as where memory ends; then
    the command is told to stop, and gone on with by two commands at once. What was there each time, and what was said.
    """
    out = tmp_path_factory.mktemp("work") / "disturbed"
    team = dlkd_started(study(out, "--workers", 2), start_new_session=True)
    wait_until(lambda: len(begun(out)) == 2 and finished(out), team)
    killed = workers_of(team.pid)
    os.kill(killed[0], signal.SIGKILL)
    already = finished(out)
    wait_until(lambda: finished(out) > already, team)
    left = begun(out)
    os.kill(team.pid, signal.SIGTERM)
    stopped = Done(*team.communicate(timeout=PATIENCE), team.returncode)
    done = finished(out)

    other = dlkd_started(study(out), start_new_session=True)
    wait_until(lambda: finished(out) > done, other)
    here = dlkd(*study(out))
    both = [Done(*other.communicate(timeout=PATIENCE), other.returncode), Done(here.out, here.err, here.status)]
    return Disturbed(out, killed, left, stopped, done, both)


def without_clocks(value):
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k != "seconds"}
    return [without_clocks(v) for v in value] if isinstance(value, list) else value


def test_killed_and_told_to_stop(disturbed):
    """The worker that is left ends between two steps, and the command with the status of what can be gone on with."""
    assert len(disturbed.workers) == 2 and disturbed.begun
    assert disturbed.stopped.status == 75
    said_so = disturbed.stopped.err
    assert len(said_so.splitlines()) == 1 and said_so.startswith("dlkd: stopped"), said_so
    assert 2 <= len(disturbed.finished) < CELLS


def test_two_commands_at_once(disturbed):
    """Each cell that was left is run by one of them, and neither takes what the other is at."""
    assert [done.status for done in disturbed.both] == [0, 0], disturbed.both
    each = [said(done.out) for done in disturbed.both]
    left = CELLS - len(disturbed.finished)
    assert len(each[0] + each[1]) == len({*each[0], *each[1]}) == left and all(each)
    assert f"{CELLS} cells, {left} to be run" in disturbed.both[0].out


def test_the_same_comparison_as_undisturbed(disturbed, left_alone, study, good, read, same):
    out = disturbed.folder
    # Of two commands, the one that ends last may have looked before the other's last cell.
    good(*study(out, "--collect"))
    mine, theirs = (read(folder / "results.json") for folder in (out, left_alone[0]))
    assert without_clocks(mine) == without_clocks(theirs) and mine["rows"][0]["seeds"]["0"].keys() >= {"seconds"}
    cells = {p.relative_to(out) for p in finished(out)}
    assert cells == {p.relative_to(left_alone[0]) for p in finished(left_alone[0])} and len(cells) == CELLS
    assert all(same(out / cell, left_alone[0] / cell) for cell in cells)
    assert not list(out.glob("cells/**/*.failed.json")) and not list(out.glob("cells/**/.*.tmp"))


def test_nothing_is_run_twice(left_alone, study, good):
    out, _ = left_alone
    before = {p: p.stat().st_mtime_ns for p in out.glob("cells/**/*") if p.is_file()}
    done = good(*study(out))
    assert f"{CELLS} cells, 0 to be run" in done.out and not said(done.out)
    assert {p: p.stat().st_mtime_ns for p in out.glob("cells/**/*") if p.is_file()} == before


def test_cells_are_runs_of_distill(left_alone, good, read, same, tmp_path):
    """With the options of the cell, and without a store: the teacher says the same live."""
    out, _ = left_alone
    cell = out / "cells" / "noisy" / "kd-2" / "seed3"
    good("distill", "--config", cell / "config.yaml", "--out", tmp_path / "run", "--store", "null")
    # A store keeps logits in half precision, so that one may differ by rounding; the views and labels are the same.
    stored, live = (read(folder / "run.json") for folder in (cell, tmp_path / "run"))
    assert stored["data"] == live["data"] and stored["method"] == live["method"]
    good("distill", "--config", cell / "config.yaml", "--out", tmp_path / "again")
    assert same(cell, tmp_path / "again")


@pytest.fixture(scope="module")
def failing(tmp_path_factory, small, dlkd):
    """Of two methods, the first cannot be run; its weights have a name that a page might take for its own."""
    out = tmp_path_factory.mktemp("work") / "failing"
    methods = "{broken: {method: ce, student.weights: 'no <b>such</b>'}, ce: }"
    return out, dlkd(*small(out, "--seeds", 2, methods=methods))


def test_a_cell_that_fails_is_kept_with_its_reason_and_the_others_go_on(failing, read, refused):
    out, done = failing
    refused(done, "2 cells could not be run", "broken seed 0: ", "broken seed 1: ", "no <b>such</b>")
    for seed in (0, 1):
        reason = read(out / "cells" / "broken" / f"seed{seed}.failed.json")["reason"]
        assert "no <b>such</b>" in reason and f"broken, seed {seed}: failed: {reason}" in done.out
        assert not (out / "cells" / "broken" / f"seed{seed}").exists()
        assert (out / "cells" / "ce" / f"seed{seed}" / "results.json").is_file()
        assert not (out / "cells" / "ce" / f"seed{seed}.failed.json").exists()
    broken, ce = read(out / "results.json")["rows"]
    assert (broken["seeds"], broken["not_run"], broken["failed"].keys()) == ({}, [0, 1], {"0", "1"})
    assert (ce["not_run"], ce["failed"]) == ([], {})


def test_the_page_shows_the_reason_and_not_what_it_would_do(failing):
    page = (failing[0] / "report.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;such&lt;/b&gt;" in page and "not run" in page


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """Cells of three methods, of which ``kd`` cannot be run and the others are at once; and the names of those that
    were begun."""
    run = []

    def pretend(options):
        run.append(options.method)
        if options.method == "kd":
            raise UserError("expected to fail")
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text("{}")
        return {"held_out": {"accuracy": 50.0}, "seconds": 1.0}

    monkeypatch.setattr(work, "run_or_go_on", pretend)
    options = CompareOptions(tmp_path, methods=["ce", "kd", "dlkd"], seeds=1, run={"teacher": {"weights": "t"}})
    return plan(options), run


def test_a_cell_that_fails_is_not_run_again_while_another_is_waited_for(pretended, monkeypatch):
    cells, run = pretended
    slept = []
    theirs = next(cell for cell in cells if cell.method == "dlkd").options.out
    theirs.mkdir(parents=True)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            (theirs / "results.json").write_text("{}")

    monkeypatch.setattr(work.time, "sleep", sleep)
    with held(theirs.with_name("seed0.lock"), wait=False) as mine:
        assert mine
        work.run_all(cells)
    assert len(slept) == 3 and run == ["ce", "kd"]


@pytest.mark.parametrize("why", ["link", "no locks"])
def test_a_cell_that_cannot_be_locked_is_kept_with_its_reason(pretended, monkeypatch, read, why):
    """As where its lock leads elsewhere, or its file system has none; the others go on."""
    cells, run = pretended
    cell = next(cell for cell in cells if cell.method == "ce")
    lock = cell.options.out.with_name("seed0.lock")
    lock.parent.mkdir(parents=True)
    if why == "link":
        lock.symlink_to("elsewhere")

    def unable(file, *, wait):
        if file == lock:
            raise NotImplementedError("use SoftFileLock instead")
        return held(file, wait=wait)

    if why == "no locks":
        monkeypatch.setattr(work, "held", unable)
    work.run_all(cells)
    reason = read(work.failure(cell))["reason"]
    assert reason.startswith(f"could not lock {lock}: ") and reason.endswith("; give another --out")
    assert run == ["kd", "dlkd"]


def test_a_mended_cell_is_run(failing, tmp_path, small, good, read):
    out = tmp_path / "mended"
    shutil.copytree(failing[0], out)
    done = good(*small(out, "--seeds", 2, methods="{broken: {method: ce}, ce: }"))
    assert said(done.out) == [("broken", "0"), ("broken", "1")]
    assert not list(out.glob("cells/**/*.failed.json"))
    assert all(row["failed"] == {} and row["not_run"] == [] for row in read(out / "results.json")["rows"])


def test_a_comparison_of_which_nothing_could_be_run(tmp_path, small, dlkd, refused):
    """Every row says so, and why."""
    out = tmp_path / "none"
    done = dlkd(*small(out, "--run.student.name", "nonsense", "--seeds", 1, methods="[ce, kd]"))
    refused(done, "2 cells could not be run", "nonsense")
    assert (out / "table.md").read_text().count("not run") == 2
    refused(dlkd(*small(out, "--run.student.name", "nonsense", "--seeds", 1, "--collect")), "1 cells could not be run")


def test_tables_before_anything_is_run(tmp_path, small, good, read):
    good(*small(tmp_path / "out", "--collect", "--seeds", 2))
    assert read(tmp_path / "out" / "results.json")["rows"][0]["not_run"] == [0, 1]
    assert "not run" in (tmp_path / "out" / "results.csv").read_text()


def test_a_method_may_be_added_whatever_it_needs_of_a_store(tmp_path, small, good):
    """What is there already was made for a store without the probes' logits."""
    out = tmp_path / "out"
    good(*small(out, "--seeds", 1, methods="[kd]"))
    done = good(*small(out, "--seeds", 1, methods="[kd, r2kd]"))
    assert said(done.out) == [("r2kd", "0")]


def test_methods_of_inner_layers_are_run_without_a_store(tmp_path, small, good):
    done = good(*small(tmp_path / "out", "--seeds", 1, methods="[fitnet]"))
    assert said(done.out) == [("fitnet", "0")]


@pytest.mark.parametrize("option", [("--run.device", "auto"), ("--run.data.root", "elsewhere")])
def test_a_cell_that_was_begun_elsewhere_is_gone_on_with(failing, tmp_path, small, good, read, option):
    """As by another worker on a machine of several accelerators; where a finished cell ran does not count either."""
    out = tmp_path / "out"
    cell = out / "cells" / "ce" / "seed0"
    shutil.copytree(failing[0] / "cells" / "ce" / "seed0", cell)
    for name in ("results.json", "student.json", "student.safetensors"):
        (cell / name).unlink()
    done = good(*small(out, "--seeds", 1, *option))
    assert said(done.out) == [("ce", "0")] and not cell.with_name("seed0.failed.json").exists()
