"""Students that learn from images without labels, through the command."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from refusals import refused


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


def test_students_learn_from_images_without_labels(tmp_path, good, distill, table):
    some = ("--data.labelled", 0.2, "--views.mixing", "mixup", "--epochs", 2, "--engine.report", "true")
    good(*distill(tmp_path / "run", *some, "--force"))
    with np.load(tmp_path / "run" / "labels.npz") as file:
        assert (file["train_labels"] < 0).sum() == 270 - 50 and (file["held_out_labels"] >= 0).all()
    rows = table(tmp_path / "run" / "metrics.csv")
    assert [r["samples"] for r in rows] == [256, 256] and all(0 < r["ce"] < 10 for r in rows)
    card = read(tmp_path / "run", "run.json")
    assert card["data"]["unlabelled"] == 220 and card["teacher"]["seen"] == "kept"
    assert "220 of 270 training images had their labels hidden" in read(tmp_path / "run")["remarks"]


def test_where_labels_do_not_count_it_does_not_matter_who_has_one(tmp_path, good, distill, same):
    silent = ("--loss.ce_weight", 0, "--engine.report", "true", "--force")
    for share in (0, 0.3, 1):
        good(*distill(tmp_path / f"run{share}", *silent, "--data.labelled", share))
    assert same(tmp_path / "run0", tmp_path / "run1") and same(tmp_path / "run0.3", tmp_path / "run1")
    assert read(tmp_path / "run0")["training"]["accuracy"] is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        *(
            (("--method", name), (f"method {name} needs", "kd or dlkd"))
            for name in ("dkd", "nkd", "wsld", "ats", "rld")
        ),
        (("--method", "dlkd+dkd"), ("method dlkd+dkd needs",)),
        (("--method", "ce"), ("without a teacher",)),
        (("--loss.score", "cross_entropy"), ("--loss.score cross_entropy", "use another")),
        (("--data.labelled", 0, "--data.held_out", 0), ("to judge the teacher on", "--data.held_out")),
    ],
)
def test_who_needs_every_label_says_so(tmp_path, dlkd, distill, more, words):
    refused(dlkd(*distill(tmp_path / "new", "--data.labelled", 0.5, *more)), *words)
    assert not (tmp_path / "new").exists()


def test_training_needs_labels(tmp_path, dlkd, train):
    refused(dlkd(*train(tmp_path / "new", "--data.labelled", 0.5)), "have no label", "dlkd distill")


def test_more_images_from_a_folder(tmp_path, good, dlkd, distill, photos, table, shown):
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for k, path in enumerate(sorted(photos.rglob("*.png"))[::4]):
        Image.open(path).rotate(15).save(tmp_path / "more" / "deep" / f"{k}.png")
    files = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 32, "--data.workers", 0)
    small = ("--optim.batch_size", 8, "--engine.threads", 1, "--engine.tensorboard", "false", "--device", "cpu")
    good("train", "--out", tmp_path / "t", "--model.name", "resnet8x0.5", *files, *small, "--epochs", 6)
    more = (*files, "--data.unlabelled", tmp_path / "more")
    own = (
        "--student.name",
        "resnet8x0.5",
        "--teacher.weights",
        tmp_path / "t",
        *more,
        *small,
        "--epochs",
        2,
        "--force",
    )
    good("distill", "--out", tmp_path / "s", *own)
    rows = table(tmp_path / "s" / "metrics.csv")
    held_out = read(tmp_path / "s", "run.json")["data"]["held_out"]
    assert rows[0]["samples"] == (32 - held_out + 10) // 8 * 8
    # The teacher is known by the images that have labels.
    card = read(tmp_path / "s", "run.json")
    assert (card["teacher"]["seen"], card["teacher"]["labels"], card["data"]["unlabelled"]) == ("kept", "given", 10)
    shutil.move(tmp_path / "more", tmp_path / "elsewhere")
    scored = good("evaluate", "--weights", tmp_path / "s", "--split", "train", "--device", "cpu")
    assert shown(scored, "images") == str(32 - held_out)
    moved = (
        *files,
        "--data.unlabelled",
        tmp_path / "elsewhere",
        "--device",
        "cpu",
        "--teacher.weights",
        tmp_path / "t",
    )
    good("difficulty", "--out", tmp_path / "d.csv", *moved)
    last = table(tmp_path / "d.csv")[-1]
    assert last["path"] == "unlabelled/deep/9.png" and last["given_label"] == "" and last["distance"] >= 0
    assert np.isnan(last["cross_entropy"])
    refused(dlkd("difficulty", "--out", tmp_path / "e.csv", *moved, "--score", "cross_entropy"), "have no label")
