"""The table equals an independent computation with teacher and probe."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dlkd import DataOptions, FrozenTeacher, probe_distance, prune_teacher
from dlkd.data import ViewOptions, load_data, view_family
from dlkd.difficulty import DifficultyScore
from dlkd.models import load_model
from dlkd.report import pictures

SCORES = ["distance", "js", "entropy", "max_probability", "margin", "energy", "cross_entropy"]
NAMES = ["id", "given_label", "teacher_label", "probe_label", "teacher_confidence", *SCORES, "level"]


def score(teacher, tmp_path, *more, name="scores.csv"):
    options = ("--teacher.weights", teacher, "--data.per_class", 30, "--device", "cpu")
    return ("difficulty", "--out", tmp_path / name, *options, *more)


def by_hand(run, sparsities=(0.3,), temperature=1.0, images=None):
    loaded = load_model(None, run, 10, channels=1)
    teacher = FrozenTeacher(loaded.module, [prune_teacher(loaded.module, s) for s in sparsities])
    out = teacher(
        load_data(DataOptions(per_class=30, held_out=0.0)).train.pixels.array / 255 if images is None else images
    )
    each = [probe_distance(out.logits, p, temperature=temperature) for p in out.probe_logits]
    return out, torch.stack(each).mean(0)


def check(rows, samples, out, distance):
    assert list(rows[0]) == NAMES and [int(r["id"]) for r in rows] == samples.ids.tolist()
    assert [int(r["given_label"]) for r in rows] == samples.labels.tolist()
    assert [int(r["teacher_label"]) for r in rows] == out.logits.argmax(1).tolist()
    assert [int(r["probe_label"]) for r in rows] == out.probe_logits[0].argmax(1).tolist()
    confidence = torch.softmax(out.logits, 1).amax(1)
    assert [r["teacher_confidence"] for r in rows] == pytest.approx(confidence.tolist(), abs=1e-5)
    assert [r["distance"] for r in rows] == pytest.approx(distance.tolist(), abs=1e-5)
    d = np.array([r["distance"] for r in rows])
    rank = ((d[None] < d[:, None]).sum(1) + 0.5 * (d[None] == d[:, None]).sum(1)) / len(d)
    assert [r["level"] for r in rows] == pytest.approx(rank.tolist(), abs=1 / 1024 + 1 / len(d))


def test_csv(tmp_path, good, teacher, table):
    done = good(*score(teacher, tmp_path))
    data = load_data(DataOptions(per_class=30, held_out=0.0))
    rows = table(tmp_path / "scores.csv")
    check(rows, data.train, *by_hand(teacher))
    assert len(rows) == 300 and "300 images scored" in done.out
    out, _ = by_hand(teacher)
    for name in SCORES[2:]:
        by_score = DifficultyScore(name)(out.logits, target=data.train.labels)
        assert [r[name] for r in rows] == pytest.approx(by_score.tolist(), abs=1e-4), name
    page = (tmp_path / "scores.html").read_text()
    assert "data:image/png;base64," in page and "Histogram" in page
    assert {p.name for p in tmp_path.iterdir()} == {"scores.csv", "scores.html"}


def test_the_level_follows_the_chosen_score(tmp_path, good, teacher, table, monkeypatch):
    named, save = [], pictures.png

    def keep(figure):
        named.append({axes.get_xlabel() for axes in figure.axes} - {""})
        return save(figure)

    monkeypatch.setattr(pictures, "png", keep)
    good(*score(teacher, tmp_path, "--score", "entropy"))
    rows = table(tmp_path / "scores.csv")
    by_level, by_entropy = (np.argsort([r[k] for r in rows], kind="stable") for k in ("level", "entropy"))
    assert (by_level == by_entropy).mean() > 0.9
    assert "by entropy" in (tmp_path / "scores.html").read_text()
    assert [names for names in named if names] == [{"entropy of the teacher's answer"}]


def test_parquet(tmp_path, good, teacher):
    parquet = pytest.importorskip("pyarrow.parquet")
    good(*score(teacher, tmp_path, "--split", "test", name="scores.parquet"))
    rows = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    data = load_data(DataOptions(per_class=30, held_out=0.0))
    check(rows, data.test, *by_hand(teacher, images=data.test.pixels.array / 255))


def test_several_probes_and_temperature(tmp_path, good, teacher, table):
    good(*score(teacher, tmp_path, "--probe.sparsity", "[0.2,0.5]", "--distance_temperature", 3))
    _, distance = by_hand(teacher, (0.2, 0.5), 3.0)
    assert [r["distance"] for r in table(tmp_path / "scores.csv")] == pytest.approx(distance.tolist(), abs=1e-5)


def test_mean_over_augmented_views(tmp_path, good, teacher, table):
    good(*score(teacher, tmp_path, "--augmented", 3, "--seed", 5))
    data = load_data(DataOptions(per_class=30, held_out=0.0))
    family, whole = view_family(ViewOptions(), data, 5, 8), np.arange(300)
    each = [by_hand(teacher, images=family.batch(whole, np.full(300, v)).images)[1] for v in range(3)]
    assert [r["distance"] for r in table(tmp_path / "scores.csv")] == pytest.approx(
        torch.stack(each).mean(0).tolist(), abs=1e-5
    )


def test_folder_names_its_files(tmp_path, good, photos, table):
    own = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 24, "--device", "cpu")
    good(
        *("train", "--out", tmp_path / "teacher", "--model.name", "resnet8x0.5", "--epochs", 1, *own),
        *("--optim.batch_size", 8, "--data.workers", 0, "--engine.threads", 1, "--engine.tensorboard", "false"),
    )
    good("difficulty", "--out", tmp_path / "scores.csv", "--teacher.weights", tmp_path / "teacher", *own)
    rows = table(tmp_path / "scores.csv")
    assert len(rows) == 32 and {r["given_label"] for r in rows} == {"zero", "one"}
    assert all((photos / r["path"]).is_file() and r["path"].split("/")[0] == r["given_label"] for r in rows)


def test_files_are_not_replaced_unasked(tmp_path, dlkd, good, teacher):
    for name in ("scores.csv", "scores.html"):
        (tmp_path / name).write_text("mine")
        done = dlkd(*score(teacher, tmp_path))
        assert done.status == 2 and name in done.err and "--overwrite" in done.err
        assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}
        (tmp_path / name).unlink()
    (tmp_path / "scores.csv").write_text("mine")
    good(*score(teacher, tmp_path, "--overwrite"))
    assert (tmp_path / "scores.csv").read_text().startswith("id,")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--augmented", -1), "--augmented"),
        (("--augmented", 2, "--split", "test"), "--split train"),
        (("--distance_temperature", 0), "--distance_temperature"),
        (("--split", "held_out"), "--data.held_out"),
        (("--probe.sparsity", 1), "--probe.sparsity"),
        (("--out", "scores.txt"), ".parquet"),
        (("--out", "no/such/folder/scores.csv"), "make it first"),
    ],
)
def test_bad_options(tmp_path, dlkd, teacher, more, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dlkd(*score(teacher, tmp_path, *more))
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_teacher_that_is_not_a_number_names_images(tmp_path, dlkd, teacher):
    state = load_file(teacher / "student.safetensors")
    state["linear.bias" if "linear.bias" in state else "fc.bias"][3] = float("nan")
    save_file(state, tmp_path / "broken.safetensors")
    done = dlkd(*score(tmp_path / "broken.safetensors", tmp_path, "--teacher.name", "resnet8x0.5"))
    ids = load_data(DataOptions(per_class=30, held_out=0.0)).train.ids[:5].tolist()
    assert done.status == 2 and f"sample ids {ids} and 295 more" in done.err and not (tmp_path / "scores.csv").exists()


def test_who_saw_what_is_told(tmp_path, good, teacher):
    good(*score(teacher, tmp_path))
    assert "no evidence about wrong labels" in (tmp_path / "scores.html").read_text()
    good(*score(teacher, tmp_path, "--overwrite", "--teacher.seen", "none"))
    assert "no evidence about wrong labels" not in (tmp_path / "scores.html").read_text()
