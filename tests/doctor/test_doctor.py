"""``dlkd doctor``: all well here, and a clear line with exit code 1 for what is broken."""

import json
import re
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from dlkd.doctor import devices, installed, places, self_test
from dlkd.doctor.line import Line

ROOT = Path(__file__).parents[2]
PLACE = re.compile(r"(?<![\w:/])/(?!/)\w+")
"""An absolute path, but no part of an address."""


def statuses(lines):
    return [line.status for line in lines]


def test_all_is_well(dlkd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    done = dlkd("doctor")
    assert done.status == 0 and done.err == "", done.out
    for words in (
        "dlkd 0.",
        f"torch {torch.__version__}",
        "timm",
        "CPU ",
        "cuda:" if torch.cuda.is_available() else "CUDA",
    ):
        assert words in done.out
    assert "the loss of KD: within" in done.out and "train, distill, evaluate" in done.out and "All is well" in done.out
    assert list(tmp_path.iterdir()) == []


def test_json(dlkd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dlkd("doctor", "--out", "results", "--self_test", "false", "--json")
    found = json.loads(done.out)
    assert done.status == 0 and found["ok"] and found["problems"] == 0 and found["versions"]["numpy"]
    assert {line["part"] for line in found["lines"]} == {"version", "extra", "device", "place"}
    assert "--out results" in done.out and PLACE.search(done.out) is None
    assert len(found["lines"]) == found["notes"] + sum(line["status"] == "ok" for line in found["lines"])


def test_broken(dlkd, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(self_test, "kd_loss", lambda *a, **k: torch.tensor(1.0))

    def broken(*_, **__):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(self_test, "run", broken)
    done = dlkd("doctor", "--out", tmp_path / "file", "--json")
    found = json.loads(done.out)
    bad = [line for line in found["lines"] if line["status"] == "problem"]
    assert done.status == 1 and not found["ok"] and found["problems"] == 3 and all(line["advice"] for line in bad)
    assert "there is a file" in bad[0]["what"] and "expected" in bad[1]["what"] and "no kernel" in bad[2]["what"]
    assert "3 of" in done.err


def test_without_torch(dlkd_process, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open')\n")
    done = dlkd_process("doctor", "--out", "results", "--json", env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    found = json.loads(done.out)
    bad = [line["what"] for line in found["lines"] if line["status"] == "problem"]
    assert done.status == 1 and "Traceback" not in done.err
    assert bad[0] == "torch cannot be imported: libtorch.so: cannot open" and len(bad) >= 3
    assert any(line["part"] == "place" and "can be written to" in line["what"] for line in found["lines"])


def test_a_device_that_is_not_there(dlkd):
    done = dlkd("doctor", "--device", "cuda:99")
    assert done.status == 1 and done.out.count("no device cuda:99") == 2 and "--device auto" in done.out


def test_extras_are_those_of_the_package():
    text = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", text, re.MULTILINE))
    assert set(installed.EXTRAS) == extras - {"dev", "docs", "benchmark"}


def test_versions(monkeypatch):
    wanted = {"": ["torch>=2", "numpy>=1", "rich>=13", "scipy>=999"], "timm": ["timm>=1"], "onnx": ["no-such-thing"]}
    required = {extra: [Requirement(text) for text in wanted.get(extra, [])] for extra in ("", *installed.EXTRAS)}
    lines = {line.what.split(" ")[0].rstrip(":"): line for line in installed.look(required)}
    assert lines["scipy"].status == "problem" and ">=999" in lines["scipy"].what and lines["2"].status == "ok"
    assert lines["onnx"].status == "note" and "no-such-thing is missing" in lines["onnx"].what
    assert lines["onnx"].advice == "pip install 'dlkd[onnx]'"
    assert lines["timm"].status == "ok" and lines["tuning"].status == "note"
    known = installed.requirements()
    assert {r.name for r in known[""]} >= {"torch", "numpy"} and {r.name for r in known["timm"]} == {"timm"}


def test_places(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    out = tmp_path / "new" / "folder"
    for free, status in ((1e10, "ok"), (3e9, "note"), (1e6, "problem")):
        monkeypatch.setattr(places.shutil, "disk_usage", lambda _, free=free: usage(free))
        assert statuses(places.look(out)) == [status, status] and not out.parent.exists()
    monkeypatch.undo()

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places.tempfile, "TemporaryFile", refuse)
    lines = places.look(out)
    assert statuses(lines) == ["problem", "problem"] and "Permission denied" in lines[0].what


def test_devices(monkeypatch):
    monkeypatch.setattr(devices, "_usable", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert devices._cpu().status == "note" and devices._cpu().advice.endswith("OMP_NUM_THREADS=1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    (line,) = devices._cuda()
    assert line.status == "note" and "https://pytorch.org" in line.advice
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A card")

    def busy(_):
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    (line,) = devices._cuda()
    assert line.status == "problem" and line.what == "cuda:0 A card does not work: out of memory"


@pytest.mark.parametrize("status", ["ok", "note", "problem"])
def test_a_line_is_one_line(status):
    text = str(Line("test", "what\x1b[31m\nelse", status, "do this"))
    assert text.startswith(status) and text.endswith("; do this") and text.isprintable()
