"""Three kills as the soak makes them; that it would see a difference; the file and the page of the whole soak."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlkd.train.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[2]
SOAK = ROOT / "results" / "soak.json"


@pytest.fixture
def load(monkeypatch):
    """A script of the soak by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def check_file(found, kills):
    assert found["settings"]["kills"] == kills == len(found["kills"]) == sum(job["kills"] for job in found["jobs"])
    assert {"dlkd", "torch", "python"} <= found["versions"].keys() and isinstance(found["settings"]["seed"], int)
    for kill in found["kills"]:
        assert kill["status"] == {"SIGKILL": -9, "SIGTERM": 75}[kill["signal"]] and kill["delivered"]
        assert kill["lost"] <= (1 if kill["command"] == "store build" else found["settings"]["checkpoint_every"])
        assert ("seconds" in kill) == (kill["signal"] == "SIGTERM") and kill["moment"]
        assert kill.get("noticed") == (True if "damage" in kill else None)
    assert found["differences"] == [] and all(verdict["good"] for verdict in found["verdicts"])
    assert "/" not in json.dumps(found)  # nor a path of any machine


def test_three_kills(tmp_path):
    out = tmp_path / "soak.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "soak.py", "--kills", "3", "--seed", "1", "--out", out],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    check_file(found, 3)
    assert {(kill["command"], kill["signal"], kill["moment"]) for kill in found["kills"]} == {
        ("store build", "SIGKILL", "shard half written"),
        ("distill", "SIGKILL", "checkpoint half written"),
        ("distill", "SIGTERM", "step"),
    }
    # The kill falls into the write of a checkpoint, after all steps since the one before.
    assert {kill["lost"] for kill in found["kills"] if kill["moment"] != "step"} <= {1, 2, 3, 4, 5}


def test_every_kind_comes_and_the_seed_decides(load):
    soak = load("soak")
    moments = {name: [(d.event, d.signal) for d in deaths] for name, deaths in soak.plan(60, 0).items()}
    assert sum(map(len, moments.values())) == 60 and soak.plan(60, 0) == soak.plan(60, 0) != soak.plan(60, 1)
    assert {event for each in moments.values() for event, _ in each} == {
        *("step", "shard", "start"),
        *(event for events in soak.FILES.values() for event in events),
    }
    assert all("SIGTERM" in {signal for _, signal in each} for each in moments.values())
    assert {d.damage for deaths in soak.plan(60, 0).values() for d in deaths} == {None, "a flipped bit", "cut off"}


def folder(path, student=b"s", loss=1.0, speed=3.0, more=()):
    path.mkdir(parents=True)
    (path / "student.safetensors").write_bytes(student)
    (path / "metrics.csv").write_text(f"epoch,loss,images_per_second\n1,{loss},{speed}\n")
    (path / "results.json").write_text(json.dumps({"training": {"loss": loss, "data_wait": speed}, "remarks": []}))
    for name in more:
        (path / name).write_text("x")
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"student": b"t"}, ["student.safetensors of run differs"]),
        ({"loss": 2.0}, ["metrics.csv of run differs", "results.json of run differs"]),
        ({"more": ["labels.npz"]}, ["labels.npz is in one of two run alone"]),
        (
            {"more": [".run.json.ab_d3fgh.tmp"]},
            [".run.json.ab_d3fgh.tmp is in one of two run alone", ".run.json.ab_d3fgh.tmp was left behind"],
        ),
        ({"speed": 9.0}, []),
    ],
)
def test_a_difference_is_seen(load, tmp_path, changed, said):
    mine, theirs = folder(tmp_path / "mine" / "run", **changed), folder(tmp_path / "theirs" / "run")
    assert load("soak_checks").differences(mine, theirs) == (said, 3)


def test_what_a_kill_cost_is_measured(load, tmp_path):
    checks, child = load("soak_checks"), load("soak_child")
    events = [[0, 0.0, "start"], *([k, k / 4, "step", k] for k in range(3, 10)), [11, 2.4, "signal", "step"]]
    done = checks.Done(-9, 14.0, events, "")
    assert done.seconds("step", start=True) == 0.75 and done.seconds("step", start=False) == 0.25
    assert done.after_signal() == 3
    for step, lost in ((10, 0), (9, 1), (4, 6)):
        save_checkpoint(tmp_path, {"step": step})
        death = child.Death("distill", "step", "SIGKILL", "step")
        checks.judge_run(death, done, tmp_path)
        assert death.found == {"status": -9, "reached": 9, "lost": lost, "delivered": True}
    jobs = [{"job": "distill", "command": "distill", "compared": 3}]
    verdicts = {v["what"]: v for v in checks.verdicts([death], jobs, ["one"], 5)}
    bad = {what for what, verdict in verdicts.items() if not verdict["good"]}
    assert bad == {
        *(f"SIGKILL during the write of a {what}" for what in ("checkpoint", "shard")),
        *("steps lost to a SIGKILL, the most", "differences, and files left behind"),
    }
    assert verdicts["steps lost to a SIGKILL, the most"]["found"] == 6


@pytest.mark.skipif(not SOAK.exists(), reason="results/soak.json is not there")
def test_the_file_of_the_whole_soak_and_its_page(load):
    found = json.loads(SOAK.read_text())
    check_file(found, found["settings"]["kills"])
    assert found["settings"]["kills"] >= 20 and {job["command"] for job in found["jobs"]} == {
        *("train", "distill", "store build", "compare"),
    }
    assert load("soak_checks").table(found).strip() in (ROOT / "docs" / "reliability.md").read_text()
