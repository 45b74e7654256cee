"""The speed benchmarks: what is timed is the same step everywhere; a rehearsal at tiny size; the files they left."""

import importlib
import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dlkd.models import InputFormat, build_model

ROOT = Path(__file__).parents[2]
SPEED = ROOT / "results" / "speed.json"
PROFILES = sorted((ROOT / "results").glob("profile-*.json"))
OURS = {"plain", "kd", "dlkd", "store", "part: student", "part: teacher", "part: probe"}


@pytest.fixture
def load(monkeypatch):
    """A script by name; its pairs are one of tiny models."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def module(name):
        runs = importlib.import_module("random_runs")
        tiny = runs.Pair("resnet8x0.5", "resnet8x0.5", classes=5, side=8, batch_size=4, images=16)
        monkeypatch.setitem(runs.PAIRS, "tiny", tiny)
        return importlib.import_module(name)

    return module


@pytest.fixture
def call(load, monkeypatch, capsys):
    """Run a script as from the command line; returns what it printed."""

    def run(name, *arguments):
        module = load(name)
        monkeypatch.delitem(getattr(module, "OTHERS", {}), "compiled", raising=False)  # needs minutes and a compiler
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        module.main()
        return capsys.readouterr().out

    return run


def peers_here(peers):
    models = peers.Models(*(build_model("resnet8x0.5", 5) for _ in range(2)), InputFormat(), torch.device("cpu"))
    return [name for name, make in peers.PEERS.items() if make(models) is not None]


def test_a_step_of_others_is_the_step_that_we_mean(load):
    peers = load("peers")
    names = peers_here(peers)
    assert "timm" in names
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 5
    torch.manual_seed(0)
    teacher, student = (build_model("resnet8x0.5", 5) for _ in range(2))
    teacher.eval()

    exact = build_model("resnet8x0.5", 5).double().train()
    exact.load_state_dict(student.state_dict())
    logits = exact(images.double())
    with torch.no_grad():
        target = build_model("resnet8x0.5", 5).double().eval()
        target.load_state_dict(teacher.state_dict())
        wanted = (target(images.double()) / 4).softmax(1)
    kl = (wanted * (wanted.log() - (logits / 4).log_softmax(1))).sum(1).mean()
    loss = 0.1 * functional.cross_entropy(logits, labels) + 0.9 * 16 * kl
    loss.backward()
    # The first step of SGD with momentum: w − lr·(g + wd·w); of kernels, where all decay weights alike.
    kernels = {n: p - 0.05 * (p.grad + 5e-4 * p) for n, p in exact.named_parameters() if p.ndim > 1}

    for name in names:
        mine, theirs = build_model("resnet8x0.5", 5), build_model("resnet8x0.5", 5)
        mine.load_state_dict(student.state_dict())
        theirs.load_state_dict(teacher.state_dict())
        step = peers.PEERS[name](peers.Models(mine.train(), theirs.eval(), InputFormat(), torch.device("cpu")))
        assert step(images, labels) == pytest.approx(loss.item(), rel=1e-5)
        found = dict(mine.named_parameters())
        assert all(torch.allclose(found[n].double(), value, rtol=0, atol=1e-6) for n, value in kernels.items())
        assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), teacher.parameters(), strict=True))


def test_rehearsal(call, load, tmp_path):
    out = tmp_path / "speed.json"
    arguments = ("--out", out, "--pairs", "tiny", "--rounds", 2, "--steps", 1, "--warm_up", 1, "--threads", 1)
    printed = call("throughput", *arguments, "--device", "cpu")
    found = json.loads(out.read_text())
    assert list(found["pairs"]) == ["resnet8x0.5 → resnet8x0.5"]
    pair = found["pairs"]["resnet8x0.5 → resnet8x0.5"]
    check_pair(pair)
    peers = peers_here(load("peers"))
    assert {n for n in pair["milliseconds"] if n.partition(",")[0] in ("torchdistill", "timm")} == {
        name + kind for name in peers for kind in ("", ", channels-last")
    }
    # 5 logits in half precision and two difficulties of 4 bytes, and the header of the shard.
    assert 18 <= pair["store_bytes_per_image"] < 18 + 1000 / 16
    throughput = importlib.import_module("throughput")
    assert throughput.table(found).strip() in printed and "| store ÷ plain |" in printed

    assert "is in" in call("throughput", *arguments)
    assert json.loads(out.read_text()) == found


def test_another_step_is_refused(call, load, monkeypatch, tmp_path):
    monkeypatch.setattr(load("peers"), "TEMPERATURE", 3.9)
    with pytest.raises(AssertionError, match="not the same step"):
        call("throughput", "--out", tmp_path / "speed.json", "--pairs", "tiny", "--rounds", 1, "--threads", 1)


def test_works_take_turns(load):
    runs = load("random_runs")
    seen = []
    works = {name: (lambda steps, name=name: seen.append((name, steps)), k + 1) for k, name in enumerate("abc")}
    rows = runs.take_turns(works, 3, torch.device("cpu"))
    forward = [("a", 1), ("b", 2), ("c", 3)]
    assert seen == forward + forward[::-1] + forward
    assert [set(row) for row in rows] == [{"a", "b", "c"}] * 3


def test_what_is_the_default_is_not_measured_twice(load, tmp_path):
    throughput, runs = load("throughput"), load("random_runs")
    sessions = throughput.make_sessions(runs.Runs(tmp_path, runs.PAIRS["tiny"], "cpu", 1))
    settings = [(s.channels_last, s.teaching.identity["fold"]) for n, s in sessions.items() if n.startswith("dlkd")]
    assert len(set(settings)) == len(settings) and {(True, True), (False, False)} <= set(settings)
    assert sessions[throughput.best(sessions, "dlkd")].channels_last
    assert sessions["store"].teaching.teacher.models == ()


def test_goals(load):
    throughput = load("throughput")
    assert throughput.Goal(at_most=1.05).met(1.05) and not throughput.Goal(at_most=1.05).met(1.06)
    assert throughput.Goal(at_least=1.1).met(1.1) and not throughput.Goal(at_least=1.1).met(1.09)
    assert not throughput.Goal(at_most=1.05).met(math.nan)
    names = [*OURS, "store, through the loader", "plain, through the loader", "timm", "timm, channels-last"]
    pair = load("random_runs").PAIRS["resnet32x4-resnet8x4"]
    wanted = throughput.ratios_wanted(pair, names, torch.device("cpu"))
    assert wanted["timm ÷ store"] == ("timm", ["store"], (None, 3.0))
    assert wanted["timm ÷ kd"] == ("timm", ["kd"], (None, 1.4))
    assert wanted["dlkd ÷ parts"] == ("dlkd", ["part: student", "part: teacher", "part: probe"], (1.05, None))
    assert wanted["timm, channels-last ÷ kd"][2] == (None, None)


def test_rows_of_a_store_grow_with_the_classes_alone(load):
    options = Namespace(scaling_images=64, classes=[5, 505], rounds=1, steps=1, device="cpu", threads=1)
    tables = load("scaling").measure_scaling(options)
    images = tables["an epoch from a store, by images"]
    assert [row["images"] for row in images] == [64, 128, 256, 512]
    sizes = np.array([row["store bytes an image"] for row in images])
    # 100 classes in half precision, and two scores at two temperatures.
    assert (sizes >= 216).all() and (sizes < 216 + 1000 / np.array([64, 128, 256, 512])).all()
    few, many = tables["a step, by classes"]
    # Half precision: two bytes a class.
    assert (many["store bytes an image"] - few["store bytes an image"]) / 500 == pytest.approx(2, abs=0.01)


MEMORY = """
import sys, torch
sys.path.append(sys.argv[1])
import scaling
device = torch.device("cpu")
if scaling.peak(device) is None or not scaling.forget_peak(device):
    sys.exit(77)
before = scaling.peak(device)
torch.ones(2**24).sum()
assert 64e6 <= scaling.peak(device) - before < 100e6
assert scaling.forget_peak(device) and scaling.peak(device) - before < 32e6
"""


def test_memory_is_of_the_steps_alone(load):
    """In a process of its own: of a large one the system may take unused memory back in between."""
    folder = Path(load("scaling").__file__).parent
    done = subprocess.run([sys.executable, "-c", MEMORY, folder], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("the system does not say")
    assert done.returncode == 0, done.stderr


def test_memory_of_a_process_of_its_own(load, tmp_path):
    scaling, runs = load("scaling"), load("random_runs")
    pair = vars(runs.PAIRS["tiny"])
    case = {"folder": str(tmp_path), "pair": pair, "device": "cpu", "threads": 1, "steps": 2, "store": True}
    found = scaling.run_apart({**case, "memory": 1})
    assert 0 < found["store"] == sum(f.stat().st_size for f in (tmp_path / "store").glob("view-*"))
    assert found["peak of all"] is None or found["peak of all"] >= (found["peak of the steps"] or 0) > 0


def test_parts_are_without_those_inside(load, monkeypatch):
    parts = load("profile_step").Parts(torch.device("cpu"))
    times = iter((0.0, 1.0, 3.0, 4.0, 8.0, 9.0))
    monkeypatch.setattr(parts, "_now", lambda: next(times))
    with parts.part("outer"):
        with parts.part("inner"):
            pass
        with parts.part("inner"):
            pass
    assert parts.seconds == {"inner": 2.0 + 4.0, "outer": 9.0 - 6.0}


def test_profile(call, tmp_path):
    call("profile_step", "--label", "try", "--out", tmp_path, "--pair", "tiny", "--steps", 2, "--device", "cpu")
    found = json.loads((tmp_path / "profile-try.json").read_text())
    check_profile(found)
    assert found["label"] == "try"


def test_the_file_of_speed_is_what_the_docs_show(load):
    found = json.loads(SPEED.read_text())
    assert {"resnet56 → resnet20", "resnet32x4 → resnet8x4"} <= found["pairs"].keys()
    for pair in found["pairs"].values():
        check_pair(pair)
    for part in found.get("scaling", {}).get("tables", {}).values():
        assert part["rows"] and all(len(row) == len(part["columns"]) for row in part["rows"])
    assert load("throughput").table(found).strip() in (ROOT / "docs" / "speed.md").read_text()


def test_there_are_profiles():
    assert [file.stem for file in PROFILES] == ["profile-after", "profile-before"]


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.stem)
def test_the_files_of_profiles(file):
    found = json.loads(file.read_text())
    check_profile(found)
    assert file.stem == f"profile-{found['label']}"


def check_pair(pair):
    """Everything is there, and figures agree with each other."""
    assert {"versions", "machine", "cpu", "accelerator", "threads", "device", "settings"} <= pair.keys()
    assert pair["milliseconds"].keys() == pair["images_per_second"].keys() >= OURS
    size = pair["settings"]["batch_size"]
    for name, value in pair["milliseconds"].items():
        assert pair["images_per_second"][name] * value == pytest.approx(1000 * size)
    mine = pair["loss_of_first_batch"]["kd"]
    assert all(loss == pytest.approx(mine, rel=1e-4) for loss in pair["loss_of_first_batch"].values())
    for row in pair["ratios"].values():
        assert 0 < row["min"] <= row["median"] <= row["max"]
        goal = row.get("goal", {})
        most, least = goal.get("at_most") or math.inf, goal.get("at_least") or 0
        assert ("met" in row) == bool(goal) and row.get("met", True) == (least <= row["median"] <= most or not goal)


def check_profile(found):
    """Shares add up, and each kind of run has its parts."""
    assert {"versions", "machine", "cpu", "threads", "settings", "label"} <= found.keys()
    common = {"data", "student forward", "loss", "backward", "optimizer", "diagnostics", "rest"}
    more = {"plain": set(), "dlkd": {"teacher", "probe", "lesson"}, "store": {"store"}}
    for kind, own in more.items():
        part = found[kind]
        assert part["parts"].keys() == common | own and sum(part["parts"].values()) == pytest.approx(1)
        shares = [row["share"] for row in part["operators"]]
        assert len(shares) == 10 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
