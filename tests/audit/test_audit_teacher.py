"""``dlkd audit --teacher.weights``: a teacher that the user has, and whether it has seen the images."""

import html
import shutil

import numpy as np
import pytest
import torch
from audits import DATA, FILES, MACHINE, TRAINING, asked, column, kept, model_of, read, rows_of, words
from refusals import refused
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score

from dlkd.data import DataOptions, load_data
from dlkd.models import build_model


def by_teacher(out, teacher, *more):
    return ("audit", "--out", out, "--teacher.weights", teacher, *MACHINE, *more)


def test_what_a_teacher_of_ours_has_seen(teacher, good, tmp_path):
    out = tmp_path / "audit"
    done = good(*by_teacher(out, teacher, "--data.per_class", 30))
    data = load_data(DataOptions(per_class=30))
    seen = dict(zip(column(out, "id").astype(int), words(out, "seen_by_teacher"), strict=True))
    assert {seen[i] for i in data.train.ids} == {"yes"} and {seen[i] for i in data.held_out.ids} == {"no"}
    assert len(seen) == len(data.train) + len(data.held_out) == 300
    found = read(out / "audit.json")
    assert "trained on 270 of these 300 images" in found["warning"] and "worthless" in found["warning"]
    assert f"warning: {found['warning']}" in done.out and found["warning"] in html.unescape(
        (out / "audit.html").read_text()
    )
    assert {p.name for p in out.iterdir()} == FILES and "fold" not in rows_of(out)[0]
    samples = load_data(DataOptions(per_class=30, held_out=0.0)).train
    np.testing.assert_allclose(kept(out)["teacher"], softmax(asked(teacher, samples), axis=1), atol=1e-5)


def test_an_oracle_is_told(teacher, good, tmp_path, whole):
    out = tmp_path / "audit"
    good(*by_teacher(out, teacher, *DATA))
    found = read(out / "audit.json")
    assert "oracle" in found["warning"] and "clean labels" in found["warning"]
    assert roc_auc_score(~whole.wrong, column(out, "score")) > 0.95  # which says nothing, and is said


@pytest.mark.parametrize(("said", "seen"), [("train", "yes"), ("none", "no"), ("unknown", None)])
def test_what_is_said_of_a_teacher_counts(network, good, tmp_path, said, seen):
    out = tmp_path / "audit"
    done = good(*by_teacher(out, network, "--data.per_class", 30, "--teacher.seen", said))
    warned = read(out / "audit.json")["warning"]
    if seen is None:
        # It is no surer of these images than of others.
        assert set(words(out, "seen_by_teacher")) == {"unknown"} and warned.startswith("Nobody knows")
        assert "surer of these images than of test images with AUROC 0." in done.out
    else:
        assert set(words(out, "seen_by_teacher")) == {seen} and bool(warned) == (seen == "yes")


def test_a_stranger_that_memorised_is_found(good, tmp_path):
    few = ("--data.per_class", 12)
    good(
        *("train", "--out", tmp_path / "run", *few, *MACHINE, *TRAINING, "--epochs", 40, "--views.augment", "none"),
        *("--data.held_out", 0, "--engine.tensorboard", "false", "--engine.report", "false"),
    )
    shutil.copy(tmp_path / "run/student.safetensors", tmp_path / "bare.safetensors")  # nothing says where it is from
    out = tmp_path / "audit"
    good(*by_teacher(out, tmp_path / "bare.safetensors", "--teacher.name", "resnet8x0.5", *few))
    assert set(words(out, "seen_by_teacher")) == {"probably"}
    assert "probably trained on them" in read(out / "audit.json")["warning"]
    # The remark is the AUROC of max p, by hand.
    data = load_data(DataOptions(per_class=12, held_out=0.0))
    surer = [softmax(asked(tmp_path / "run", s), axis=1).max(1) for s in (data.train, data.test)]
    expected = roc_auc_score(np.r_[np.ones(120), np.zeros(len(data.test))], np.concatenate(surer))
    done = good(*by_teacher(out, tmp_path / "bare.safetensors", "--teacher.name", "resnet8x0.5", *few))
    assert f"AUROC {expected:.2f}" in done.out and expected > 0.6


def test_views_are_averaged_and_never_mixed(teacher, good, tmp_path):
    """What is said of half an image is no evidence about its label."""
    found = {}
    for name, more in {
        "plain": (),
        "views": ("--augmented", 2),
        "mixed": ("--augmented", 2, "--views.mixing", "mixup"),
    }.items():
        good(*by_teacher(tmp_path / name, teacher, "--data.per_class", 10, *more))
        found[name] = kept(tmp_path / name)["teacher"]
    np.testing.assert_array_equal(found["views"], found["mixed"])
    assert np.abs(found["views"] - found["plain"]).max() > 0.05
    np.testing.assert_allclose(found["views"].sum(1), 1, rtol=1e-5)


def test_teachers_of_fewer_and_of_more_classes(dlkd, good, tmp_path):
    out, few = tmp_path / "out", ("--data.per_class", 6, "--teacher.name", "resnet8x0.5")
    for classes in (7, 12):
        file = model_of(classes, tmp_path / f"{classes}.safetensors")
        refused(dlkd(*by_teacher(out, file, *few)), "expected 10 classes", f"{classes}", "--teacher.classes")
        assert not out.exists()
    (tmp_path / "names.txt").write_text("\n".join(["left", *map(str, range(9, -1, -1)), "right"]) + "\n")
    good(*by_teacher(out, tmp_path / "12.safetensors", *few, "--teacher.classes", tmp_path / "names.txt"))
    samples = load_data(DataOptions(per_class=6, held_out=0.0)).train
    torch.manual_seed(0)
    module = build_model("resnet8x0.5", 12, channels=1).eval().double()
    with torch.no_grad():
        logits = module(samples.pixels.array.double() / 255).numpy()
    of_data = log_softmax(logits[:, 10:0:-1], axis=1)  # "0" stands tenth
    np.testing.assert_allclose(np.log(kept(out)["teacher"]), of_data, atol=1e-3)
    (tmp_path / "seven.txt").write_text("\n".join(map(str, range(7))) + "\n")
    done = dlkd(
        *by_teacher(tmp_path / "no", tmp_path / "7.safetensors", *few, "--teacher.classes", tmp_path / "seven.txt")
    )
    refused(done, "7")
    assert not (tmp_path / "no").exists()
