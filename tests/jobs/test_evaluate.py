"""The figures of a finished run can be had again, from its folder alone."""

import json
import shutil

import pytest
import torch
from refusals import refused

from dlkd import DataOptions
from dlkd.data import load_data
from dlkd.errors import UserError
from dlkd.jobs.evaluate import EvaluateOptions, evaluate
from dlkd.jobs.of_run import data_of_run


def figures_of(run, split="test"):
    return json.loads((run / "results.json").read_text())[split]


@pytest.mark.parametrize("split", ["test", "held_out"])
def test_figures_are_those_of_the_run(tmp_path, good, teacher, split, shown):
    out = tmp_path / "figures.json"
    done = good("evaluate", "--weights", teacher, "--split", split, "--out", out)
    found = json.loads(out.read_text())
    expected = figures_of(teacher, split)
    assert {k: found[k] for k in expected} == expected and found["split"] == split
    assert f"note: images and labels are those of {teacher / 'config.yaml'}" in done.out
    assert shown(done, "accuracy, %") == f"{expected['accuracy']:.4g}" and shown(done, "images") == str(found["images"])


def test_any_data_option_means_all_of_them(good, teacher, shown):
    """300 images of each class are named by nobody: then the defaults count."""
    done = good("evaluate", "--weights", teacher, "--split", "train", "--data.held_out", 0.2)
    everything = load_data(DataOptions(held_out=0.2))
    assert "note:" not in done.out and shown(done, "images") == str(len(everything.train))
    done = good("evaluate", "--weights", teacher, "--split", "train")
    assert shown(done, "images") == "270"


def test_a_file_of_a_run_means_the_images_of_the_run(good, teacher, shown):
    """Those of the defaults may be images that it was trained on."""
    done = good("evaluate", "--weights", teacher / "student.safetensors", "--split", "train")
    assert f"note: images and labels are those of {teacher / 'config.yaml'}" in done.out
    assert shown(done, "images") == "270"


def test_weights_file_alone(good, dlkd, teacher, tmp_path, shown):
    done = good("evaluate", "--weights", teacher / "student.safetensors", "--data.per_class", 30)
    assert shown(done, "accuracy, %") == f"{figures_of(teacher)['accuracy']:.4g}"
    shutil.copy(teacher / "student.safetensors", tmp_path / "strange.safetensors")
    strange = ("evaluate", "--weights", tmp_path / "strange.safetensors", "--name", "resnet8x0.5")
    words = ("config.yaml of the run beside", "which images to score the model on", "--data.workers 0")
    refused(dlkd(*strange), *words, tmp_path)
    done = good(*strange, "--data.workers", 0)  # as the line says, and as it says alone
    assert shown(done, "accuracy, %") == f"{figures_of(teacher)['accuracy']:.4g}"
    for name in ("student.safetensors", "student.json"):
        shutil.copy(teacher / name, tmp_path / name)
    refused(dlkd("evaluate", "--weights", tmp_path), *words)


def test_an_independent_loop_agrees(teacher):
    from dlkd.models import load_model

    loaded, data = load_model(None, teacher, 10, channels=1), load_data(DataOptions(per_class=30))
    with torch.no_grad():
        p = torch.softmax(loaded.module(loaded.input_format(data.test.pixels.array.float() / 255)).double(), dim=1)
    found = evaluate(EvaluateOptions(weights=teacher))
    right = p.gather(1, data.test.labels[:, None])[:, 0]
    assert found["accuracy"] == pytest.approx(100 * (p.argmax(1) == data.test.labels).double().mean().item(), abs=1e-6)
    assert found["nll"] == pytest.approx(-right.log().mean().item(), rel=1e-5)


def test_files_are_not_replaced_unasked(tmp_path, dlkd, good, teacher):
    out = tmp_path / "figures.json"
    out.write_text("mine")
    done = dlkd("evaluate", "--weights", teacher, "--out", out)
    assert done.status == 2 and "--overwrite" in done.err and out.read_text() == "mine"
    good("evaluate", "--weights", teacher, "--out", out, "--overwrite")
    assert json.loads(out.read_text())["split"] == "test"
    for bad in (tmp_path, tmp_path / "none" / "figures.json"):
        done = dlkd("evaluate", "--weights", teacher, "--out", bad, "--overwrite")
        assert done.status == 2 and done.err.startswith("dlkd: error: ") and done.err.count("\n") == 1


def test_nothing_held_out(dlkd, teacher):
    done = dlkd("evaluate", "--weights", teacher, "--split", "held_out", "--data.held_out", 0)
    assert done.status == 2 and "no held-out images" in done.err


@pytest.mark.parametrize("text", ["", "data: 3", "data: {root: x, nonsense: 1}", "a: [", "data: {name: digits}"])
def test_damaged_config(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        data_of_run(tmp_path)


def test_no_such_weights(dlkd, tmp_path):
    done = dlkd("evaluate", "--weights", tmp_path / "none")
    assert done.status == 2 and "there is nothing" in done.err
    done = dlkd("evaluate", "--weights", tmp_path)
    assert done.status == 2 and "--teacher" not in done.err
