"""Every export against what the student itself says, read as its users read it."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from dlkd.data import centre_crop, load_data
from dlkd.export import read_preprocessing
from dlkd.jobs.of_run import data_of_run
from dlkd.models import load_model

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def ask(file, images):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def checked(truth, count=256):
    """The images that an export is checked on."""
    return np.linspace(0, len(truth.ids) - 1, count).round().astype(int)


def test_onnx_says_what_the_student_says(onnx, truth, record, shown):
    folder, done = onnx
    logits = ask(folder / "model.onnx", truth.images)
    torch.testing.assert_close(logits, truth.logits, rtol=0, atol=1e-4)
    chosen, found = checked(truth), record(folder)["check"]
    difference = (logits - truth.logits)[chosen].abs()
    assert found["images"] == 256 and found["split"] == "test" and found["top1_agreement"] == 100
    assert found["max_difference"] == pytest.approx(float(difference.max()), abs=2e-5)
    right = (truth.logits.argmax(1) == truth.labels)[chosen].double().mean() * 100
    assert found["student_accuracy"] == found["exported_accuracy"] == pytest.approx(float(right))
    assert shown(done, "  accuracy of the exported file, %") == f"{right:.2f}"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_images(onnx, truth, count):
    for name in ("model.onnx", "model.int8.onnx"):
        assert ask(onnx[0] / name, truth.images[:count]).shape == (count, 10)


def test_int8(onnx, truth, record):
    folder, found = onnx[0], record(onnx[0])["int8"]
    logits, chosen = ask(folder / "model.int8.onnx", truth.images), checked(truth)
    right = (logits.argmax(1) == truth.labels)[chosen].double().mean() * 100
    same = (logits.argmax(1) == truth.logits.argmax(1))[chosen].double().mean() * 100
    assert found["check"]["exported_accuracy"] == pytest.approx(float(right))
    assert found["check"]["top1_agreement"] == pytest.approx(float(same)) and same > 85
    assert found["bytes"] == (folder / "model.int8.onnx").stat().st_size < found["float_bytes"]
    assert found["calibration_images"] == 256


def test_benchmark(onnx, run, record):
    found = record(onnx[0])["benchmark"]
    rows = {(row["model"], row["engine"]): row for row in found["rows"]}
    engines = ("PyTorch", "ONNX Runtime")
    wanted = {*((who, e) for who in ("student", "teacher") for e in engines), ("student, int8", "ONNX Runtime")}
    assert rows.keys() == wanted and found["threads"] == 1 and not found["remarks"]
    for row in rows.values():
        assert 0 < row["median_ms_1"] <= row["p95_ms_1"] and 0 < row["median_ms_32"] <= row["p95_ms_32"]
    weights = sum(v.numel() * v.element_size() for v in load_file(run / "student.safetensors").values())
    assert rows["student", "PyTorch"]["megabytes"] == pytest.approx(weights / 1e6)


def test_the_folder(onnx, record):
    folder = onnx[0]
    names = {p.name for p in folder.iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "preprocessing.json", "export.json"}
    sizes = record(folder)["files"]
    assert sizes == {name: (folder / name).stat().st_size for name in names - {"export.json"}}
    about = record(folder, "preprocessing.json")
    assert about["class_names"] == [str(k) for k in range(10)]
    assert about["input"]["shape"] == ["batch", 1, 8, 8] and about["input"]["colour"] == "grey"


def test_in_graph(of_files, tmp_path, good, record, photos):
    """The graph resizes and normalises; one beside it is given what the JSON file says."""
    for how in ("in-graph", "beside"):
        good("export", of_files, "--out", tmp_path / how, "--preprocess", how)
    images = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    loaded = load_model(None, of_files, 2)
    with torch.no_grad():
        wanted = loaded.module(loaded.input_format(images))
    inside, beside = (record(tmp_path / how, "preprocessing.json") for how in ("in-graph", "beside"))
    assert inside["input"]["shape"] == ["batch", 3, 28, 28] and beside["input"]["shape"] == ["batch", 3, 40, 40]
    assert beside["then"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "resolution": 40, "in_graph": False}
    torch.testing.assert_close(ask(tmp_path / "in-graph" / "model.onnx", images), wanted, rtol=0, atol=1e-5)
    given = (torch.nn.functional.interpolate(images, size=(40, 40), mode="bilinear", antialias=True) - 0.5) / 0.5
    torch.testing.assert_close(ask(tmp_path / "beside" / "model.onnx", given), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["in-graph", "beside"])
def test_torch_export(run, tmp_path, good, truth, how):
    good("export", run, "--to", "torch-export", "--out", tmp_path / "out", "--preprocess", how)
    module = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 5):
        torch.testing.assert_close(module(truth.images[:count]), truth.logits[:count], rtol=0, atol=1e-5)


def test_safetensors(run, tmp_path, good, weights, same):
    good("export", run, "--to", "safetensors", "--out", tmp_path / "out")
    assert same(run, tmp_path / "out")
    one, other = (load_model(None, where, 10, channels=1) for where in (run, tmp_path / "out"))
    assert other.input_format == one.input_format and other.class_names == one.class_names
    done = good("evaluate", "--weights", tmp_path / "out", "--data.per_class", 30, "--data.noise", 0.2)
    assert f"{json.loads((run / 'results.json').read_text())['test']['accuracy']:.4g}" in done.out


def test_pictures_become_what_the_student_was_trained_on(of_files, photos, run, truth):
    from dlkd.export.student import read_student

    path = photos / "zero" / "03.png"
    picture = Image.open(path).convert("RGB").resize((50, 37))
    assert torch.equal(read_student(of_files).preprocessing.image(picture), centre_crop(28)(picture, 0, 0, 0))
    grey = Image.fromarray((truth.images[5, 0] * 255).round().byte().numpy()).convert("RGB")
    torch.testing.assert_close(read_student(run).preprocessing.image(grey), truth.images[5], rtol=0, atol=1e-7)


def test_model_card(hub, run):
    text, results = (hub / "README.md").read_text(), json.loads((run / "results.json").read_text())
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "mit" and "knowledge-distillation" in head["tags"] and head["metrics"] == ["accuracy"]
    assert f"| accuracy, % | {results['test']['accuracy']:.4g} |" in text and "test images, seed 3" in text
    wrong = json.loads((run / "run.json").read_text())["data"]["wrong_labels"]
    assert f"symmetric noise, a share of 0.2 ({wrong} of them)" in text and "oracle" in text
    assert str(run) not in text and "None" not in text


@pytest.mark.parametrize(
    ("rate", "kind", "told", "found", "words", "untrue"),
    [
        (0.0, None, {}, {}, ["Labels are as the data set has them; none was made wrong."], ["After an audit", "no l"]),
        (0.0, None, {"cleaned": "c.csv"}, {}, ["After an audit some", "; the others are as"], ["made wrong", "c.csv"]),
        (0.0, None, None, {}, ["No label was made wrong."], ["as the data set has them"]),
        (0.0, None, {}, {"unlabelled": 100}, ["100 of them had no label. Labels are"], []),
        (0.3, "human", {}, {"wrong_labels": 70}, ["gave: wrong is a share of 0.3 (70 of them)."], ["on purpose"]),
        (
            *(0.2, "pair", {"cleaned": "c.csv"}, {"wrong_labels": 9}),
            ["on purpose: pair noise, a share of 0.2. ", "After an audit", "learnt from, 9 are known to be wrong"],
            ["(9 of them)", "the others"],
        ),
    ],
)
def test_the_card_says_of_labels_what_is_true(run, tmp_path, good, rate, kind, told, found, words, untrue):
    shutil.copytree(run, tmp_path / "run")

    def change(name, edit):
        content = json.loads((run / name).read_text())
        edit(content)
        (tmp_path / "run" / name).write_text(json.dumps(content))

    def card(content):
        content["data"] |= {"wrong_labels": None, "unlabelled": 0, **found}
        content["settings"]["data"] |= told or {}
        if told is None:
            del content["settings"]

    change("run.json", card)
    change("student.json", lambda c: c["card"]["trained_on"].update(noise=rate, noise_kind=kind))
    change("results.json", lambda c: c.update(noise={"kind": kind} if rate else None))
    good("export", tmp_path / "run", "--to", "hub-folder", "--out", tmp_path / "out", "--check_images", 0)
    text = " ".join((tmp_path / "out" / "README.md").read_text().split("## What it learnt from")[1].split())
    assert all(each in text for each in words) and not any(each in text for each in untrue), text


def test_the_card_of_a_run_with_cleaned_and_hidden_labels(distill, tmp_path, good):
    (tmp_path / "cleaned.csv").write_text("id,label,weight\n0,0,0.5\n")
    good(*distill(tmp_path / "run", "--data.cleaned", tmp_path / "cleaned.csv", "--data.labelled", 0.5))
    good("export", tmp_path / "run", "--to", "hub-folder", "--out", tmp_path / "out", "--check_images", 0)
    text = (tmp_path / "out" / "README.md").read_text()
    unlabelled = json.loads((tmp_path / "run" / "run.json").read_text())["data"]["unlabelled"]
    assert f"{unlabelled} of them had no label." in text and unlabelled > 100
    assert "After an audit" in text and "none was made wrong" not in text and "cleaned.csv" not in text


def test_the_hub_reads_the_card(hub):
    library = pytest.importorskip("huggingface_hub")
    data = library.ModelCard.load(hub / "README.md").data
    (figure,) = data.eval_results
    assert data.license == "mit" and figure.metric_type == "accuracy" and figure.dataset_split == "test"


def test_loading_lines_run(hub, monkeypatch, truth):
    monkeypatch.chdir(hub)
    (block,) = re.findall(r"```python\n(.*?)```", (hub / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    with torch.no_grad():
        assert torch.equal(names["student"].module(names["student"].input_format(truth.images)), truth.logits)


def test_timm_reads_the_folder(of_files, tmp_path, monkeypatch, good):
    good("export", of_files, "--to", "hub-folder", "--out", tmp_path / "hub")
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "None was stated" in text and "license" not in yaml.safe_load(text.split("---")[1])
    ours, timm_lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path / "hub")
    names, of_timm = {}, {}
    exec(ours, names)
    exec(timm_lines, of_timm)
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(of_timm["student"](images), names["student"].module(images))
    assert of_timm["student"].pretrained_cfg["mean"] == [0.5] * 3


def test_held_out_images_where_the_run_has_not_read_the_test_images(distill, tmp_path, good, record):
    good(*distill(tmp_path / "run", "--score_on", "held_out"))
    good("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "out")
    held_out = load_data(data_of_run(tmp_path / "run")).held_out
    assert record(tmp_path / "out")["check"]["split"] == "held_out"
    assert record(tmp_path / "out")["check"]["images"] == len(held_out)


def test_overwrite_replaces_the_export_and_nothing_else(run, tmp_path, good):
    out = tmp_path / "out"
    good("export", run, "--to", "hub-folder", "--out", out)
    (out / "notes.txt").write_text("mine")
    good("export", run, "--to", "safetensors", "--out", out, "--overwrite")
    assert {p.name for p in out.iterdir()} == {
        *("export.json", "preprocessing.json", "student.json", "student.safetensors", "notes.txt")
    }


def test_a_student_without_its_run(run, tmp_path, good, dlkd, refused, truth, record):
    for name in ("student.safetensors", "student.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    file, out = tmp_path / "student.safetensors", tmp_path / "out"
    refused(dlkd("export", file, "--to", "safetensors", "--out", out), "config.yaml", "--data", "--check_images 0")
    assert not out.exists()
    done = good("export", file, "--to", "hub-folder", "--out", out, "--check_images", 0)
    assert "nothing was checked" in done.out and "did not lie beside" in (out / "README.md").read_text()
    good("export", file, "--to", "safetensors", "--out", out, "--overwrite", "--data.per_class", 30)
    assert record(out)["check"]["exported_accuracy"] > 0


def test_weights_are_those_of_the_run(hub, run):
    one, other = load_file(hub / "model.safetensors"), load_file(run / "student.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_preprocessing_is_read_as_it_was_written(onnx, of_files, tmp_path, good):
    from dlkd.export.student import read_student

    assert read_preprocessing(onnx[0]).class_names == tuple(str(k) for k in range(10))
    good("export", of_files, "--to", "safetensors", "--out", tmp_path / "out")
    assert read_preprocessing(tmp_path / "out") == read_student(of_files).preprocessing
