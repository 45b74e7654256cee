"""Whatever is wrong: exit code 2, one line that says what to do, nothing under the asked name."""

import json
import shutil
import sys
import time

import pytest
import torch

WET = """
import torch
from torch import nn
from torch.nn import functional

class Wet(nn.Module):
    '''Its dropout stays on in eval mode.'''
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.layer(functional.dropout(x.flatten(1), 0.5, training=True))

class Undecided(Wet):
    '''It looks at its values.'''
    def forward(self, x):
        return self.layer(x.flatten(1)) if x.mean() > 0.2 else self.layer(-x.flatten(1))
"""


@pytest.fixture
def own(own_module, train, good, tmp_path):
    """A run of a model that somebody wrote."""

    def make(name):
        own_module("own_wet", WET)
        good(*train(tmp_path / name, "--model.name", f"own_wet:{name}"))
        return tmp_path / name

    return make


def without(run, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    return tmp_path / "run"


def test_no_such_run(tmp_path, dlkd, refused):
    out = ("--out", tmp_path / "out")
    refused(dlkd("export", tmp_path / "nope", *out), tmp_path / "nope", "there is nothing")
    refused(dlkd("export", tmp_path, *out), "expected a run of dlkd", "student.safetensors")
    refused(dlkd("export", *out), "expected --run, but it is missing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("results.json", ("is not finished", "dlkd distill --resume --out ")), ("student.safetensors", ("there is no",))],
)
def test_a_run_that_is_not_whole(run, tmp_path, dlkd, refused, name, words):
    folder = without(run, tmp_path, name)
    for command in (("export", folder, "--out", tmp_path / "out"), ("predict", folder, "--images", tmp_path)):
        refused(dlkd(*command), folder, *words)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_ours(run, tmp_path, dlkd, refused, digits):
    for name in ("model.pth", "model.safetensors"):
        (tmp_path / name).write_bytes((run / "student.safetensors").read_bytes())
        refused(dlkd("export", tmp_path / name, "--out", tmp_path / "out"), "expected a run", name)
    refused(dlkd("predict", tmp_path / "model.pth", "--images", digits), "model.pth", "export the run --to onnx")
    refused(dlkd("predict", tmp_path / "none.onnx", "--images", digits), "none.onnx", "there is nothing")
    refused(dlkd("predict", tmp_path / "model.safetensors", "--images", digits), "student.safetensors")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--to", "tflite"), ("--to", "onnx, safetensors, torch-export, hub-folder", "tflite")),
        (("--to", "safetensors", "--int8"), ("--to onnx with --int8",)),
        (("--to", "hub-folder", "--preprocess", "in-graph"), ("in-graph", "torch-export")),
        (("--license", "mit"), ("--to hub-folder",)),
        (("--check_images", -1), ("--check_images", "at least 0")),
        (("--tolerance", 0), ("--tolerance", "above 0")),
        (("--threads", 0), ("--threads", "at least 1")),
        (("--data.name", "folder", "--data.root", "nope"), ("nope",)),
        (("--split", "train"), ("--split", "test", "held_out")),
        (("--name", "resnet20"), ("resnet8x0.5", "resnet20")),
    ],
)
def test_options(run, tmp_path, dlkd, refused, more, words):
    refused(dlkd("export", run, "--out", tmp_path / "out", *more), *words)
    assert not (tmp_path / "out").exists()


def test_data_of_other_classes(run, tmp_path, dlkd, refused, photos):
    done = dlkd("export", run, "--out", tmp_path / "out", "--data.name", "folder", "--data.root", photos)
    refused(done, "10 classes and 1 channels", "2 and 3")


def test_folders(run, tmp_path, dlkd, good, refused):
    export = ("export", run, "--to", "safetensors", "--out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "export.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        refused(dlkd(*export, tmp_path / "full", *more), "no export of dlkd", "choose another folder")
    refused(dlkd(*export, tmp_path / "full" / "export.txt"), "could not write to --out")
    refused(dlkd(*export, tmp_path / "full" / "export.txt" / "inner"), "could not write to --out")
    refused(dlkd(*export, run), "another folder than that of", run)
    good(*export, tmp_path / "out")
    refused(dlkd(*export, tmp_path / "out"), "holds an export already", "--overwrite")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["export.txt"]
    assert not (run / ".lock").exists()


def test_an_export_does_not_replace_what_it_is_made_of(run, tmp_path, dlkd, good, refused):
    """The weights would be gone as soon as a new file is right, and as soon as it is not."""
    out, linked = tmp_path / "out", tmp_path / "linked"
    good("export", run, "--to", "safetensors", "--out", out)
    shutil.copytree(out, linked)
    (linked / "student.safetensors").unlink()
    (linked / "student.safetensors").symlink_to(out / "student.safetensors")
    (tmp_path / "link").symlink_to(out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for to in ("safetensors", "hub-folder"):
        for source in (out, out / "student.safetensors", tmp_path / "link", linked):
            for folder in (out, tmp_path / "link"):
                words = ("--to", to, "--check_images", 0, "--overwrite", "--out", folder)
                refused(dlkd("export", source, *words), "expected --out to be another folder", "student.safetensors")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    good("export", out, "--to", "hub-folder", "--out", tmp_path / "hub", "--check_images", 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a folder that nobody may write to")
def test_a_folder_that_cannot_be_written(run, dlkd, refused):
    refused(dlkd("export", run, "--to", "safetensors", "--out", "/proc/self/out"), "could not write to --out")


def test_an_export_that_disagrees(own, tmp_path, dlkd, refused, good):
    """A dropout that stays on in eval mode: graph and student draw other numbers."""
    run, out = own("Wet"), tmp_path / "out"
    export = ("export", run, "--name", "own_wet:Wet", "--out", out)
    done = dlkd(*export)
    refused(done, "model.onnx disagrees with the student", "on test image ", "model.onnx.rejected", "top-1 agreement")
    assert {p.name for p in out.iterdir()} == {"model.onnx.rejected", "export.rejected.json"}
    found = json.loads((out / "export.rejected.json").read_text())["check"]
    assert not found["agrees"] and found["worst"] in done.err and found["max_difference"] > found["allowed"]
    # Nor is an earlier export left under the name.
    good(*export, "--to", "hub-folder", "--check_images", 0, "--overwrite")
    assert (out / "model.safetensors").is_file() and not (out / "model.onnx.rejected").exists()
    refused(dlkd(*export, "--overwrite"), "disagrees")
    assert {p.name for p in out.iterdir()} == {"model.onnx.rejected", "export.rejected.json"}


def test_an_image_from_a_file_is_named(of_files, tmp_path, dlkd, refused, photos):
    """A bound that no rounding keeps: the message names the file."""
    done = dlkd("export", of_files, "--out", tmp_path / "out", "--tolerance", 1e-12)
    refused(done, "disagrees", "on ", ".png (test image ")
    assert str(photos) not in (tmp_path / "out" / "export.rejected.json").read_text()


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_model_that_is_no_graph(own, tmp_path, dlkd, refused, to):
    run = own("Undecided")
    done = dlkd("export", run, "--name", "own_wet:Undecided", "--to", to, "--out", tmp_path / "out")
    refused(done, "Undecided could not be made a graph", "--to safetensors")
    assert not (tmp_path / "out").exists()


def test_a_factory_is_not_called_because_a_file_says_so(own, tmp_path, dlkd, refused, good, digits):
    run = own("Wet")
    refused(dlkd("export", run, "--out", tmp_path / "out"), "own_wet:Wet", "if you trust it", "--name")
    refused(dlkd("predict", run, "--images", digits), "own_wet:Wet", "--name")
    named = ("--name", "own_wet:Wet")
    good("export", run, *named, "--to", "hub-folder", "--out", tmp_path / "hub", "--check_images", 0)
    refused(dlkd("predict", tmp_path / "hub", "--images", digits), "own_wet:Wet", "--name")
    good("predict", tmp_path / "hub", "--images", digits, *named, "--out", tmp_path / "p.csv")


def test_two_processes_in_one_folder(run, tmp_path, dlkd, dlkd_started, refused):
    out = tmp_path / "out"
    first = dlkd_started(["export", str(run), "--out", str(out)])
    try:
        until = time.monotonic() + 60
        while not (out / ".export").exists():
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        refused(dlkd("export", run, "--to", "safetensors", "--out", out, "--overwrite"), "another process", out)
        _, err = first.communicate(timeout=120)
    finally:
        first.kill()
    assert first.returncode == 0, err
    assert {p.name for p in out.iterdir()} == {"model.onnx", "preprocessing.json", "export.json"}


def test_killed_on_the_way(run, tmp_path, dlkd_started, good):
    """Nothing has a name that somebody would use, and the same command works."""
    out = tmp_path / "out"
    first = dlkd_started(["export", str(run), "--out", str(out)])
    while not (out / ".export").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.communicate()
    assert {p.name for p in out.iterdir()} <= {".export", ".lock"}
    good("export", run, "--to", "safetensors", "--out", out)
    assert not (out / ".export").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_library_that_is_not_installed(run, onnx, tmp_path, dlkd, refused, monkeypatch, package, digits):
    monkeypatch.setitem(sys.modules, package, None)
    refused(dlkd("export", run, "--out", tmp_path / "out"), package, "pip install 'dlkd[onnx]'")
    refused(dlkd("export", run, "--to", "torch-export", "--benchmark", "--out", tmp_path / "out"), "dlkd[onnx]")
    refused(dlkd("predict", onnx[0] / "model.onnx", "--images", digits), package, "pip install 'dlkd[onnx]'")


def test_an_onnx_file_without_its_json(onnx, of_files, tmp_path, dlkd, good, refused, digits):
    ask = ("predict", tmp_path / "model.onnx", "--images", digits)
    shutil.copy(onnx[0] / "model.onnx", tmp_path)
    refused(dlkd(*ask), "preprocessing.json beside the model", "copy it")
    good("export", of_files, "--to", "safetensors", "--out", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "preprocessing.json", tmp_path)
    refused(dlkd(*ask), "of another model", "[3, 40, 40]", "[1, 8, 8]")
    shutil.copy(onnx[0] / "preprocessing.json", tmp_path)
    (tmp_path / "model.onnx").write_bytes((onnx[0] / "model.onnx").read_bytes()[:5000])
    refused(dlkd(*ask), "model.onnx is damaged or no ONNX model")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"class_names": "0123456789"},
        {"class_names": []},
        {"resize": {"short_side": 10**9}},
        {"centre_crop": {"height": True, "width": 8}},
        {"then": {"mean": [0.5, 0.5], "std": [1, 1], "resolution": None, "in_graph": False}},
        {"then": {"mean": None, "std": None, "resolution": "8", "in_graph": False}},
        {"input": {"shape": ["batch", 2, 8, 8]}},
        {"input": []},
        "not JSON",
        [],
    ],
)
def test_a_damaged_json(onnx, tmp_path, dlkd, refused, digits, change):
    shutil.copy(onnx[0] / "model.onnx", tmp_path)
    values = json.loads((onnx[0] / "preprocessing.json").read_text())
    text = json.dumps({**values, **change} if isinstance(change, dict) else change)
    (tmp_path / "preprocessing.json").write_text(change if isinstance(change, str) else text)
    refused(dlkd("predict", tmp_path / "model.onnx", "--images", digits), "preprocessing.json is damaged")


def test_predict(run, tmp_path, dlkd, refused, digits):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    refused(dlkd("predict", run, "--images", tmp_path / "empty"), "found none", ".png")
    refused(dlkd("predict", run), "expected --images")
    refused(dlkd("predict", run, "--images", digits, tmp_path / "gone.png"), "gone.png", "there is nothing")
    refused(dlkd("predict", run, "--images", digits, "--out", tmp_path / "p.xml"), ".csv or .jsonl", "p.xml")
    (tmp_path / "p.csv").write_text("mine")
    refused(dlkd("predict", run, "--images", digits, "--out", tmp_path / "p.csv"), "--overwrite")
    refused(dlkd("predict", run, "--images", digits, "--out", tmp_path / "no" / "p.csv"), "make it first")
    refused(dlkd("predict", run, "--images", digits, "--top", 0), "--top", "at least 1")
    assert (tmp_path / "p.csv").read_text() == "mine" and not list(tmp_path.glob(".p.csv*"))


def test_logits_that_are_not_finite(run, tmp_path, dlkd, refused, good, digits):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(run, tmp_path / "run")
    state = load_file(folder / "student.safetensors")
    save_file({k: torch.full_like(v, torch.nan) if "bias" in k else v for k, v in state.items()}, folder / "s")
    (folder / "s").rename(folder / "student.safetensors")
    refused(dlkd("export", folder, "--out", tmp_path / "out"), "student's logits are not finite")
    done = good("predict", folder, "--images", digits, "--out", tmp_path / "p.csv")
    assert "60 pictures, 60 of them" in done.out and "not finite" in (tmp_path / "p.csv").read_text()
