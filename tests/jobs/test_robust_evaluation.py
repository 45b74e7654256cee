"""The whole evaluation through the command line: the figures of a run again, and those that a run has not."""

import json
import sys

import numpy as np
import pytest
import torch

from dlkd.data import DataOptions, load_data
from dlkd.models import load_model

CELLS = ("--corruptions", "gaussian_noise,contrast", "--severities", "1,5")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, good, distill):
    """A student of 40 % wrong labels, with a probe, views and a seed that are not the default."""
    out = tmp_path_factory.mktemp("noisy") / "student"
    good(
        *distill(out, "--data.noise", 0.4, "--data.held_out", 0.2, "--epochs", 4, "--optim.batch_size", 16),
        *("--probe.sparsity", 0.5, "--views.mixing", "mixup", "--seed", 3, "--loss.kd_weight", 0.2),
    )
    return out


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def found(noisy, good, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("noisy") / "figures.json"
    good("evaluate", "--weights", noisy, "--teacher.weights", teacher, "--device", "cpu", *CELLS, "--out", out)
    return read(out)


def test_the_run_and_its_evaluation_say_the_same(noisy, found):
    results = read(noisy / "results.json")
    for name in ("agreement", "kl_to_teacher", "by_level", "memorisation"):
        assert found[name] == results[name], name
    assert {k: found[k] for k in results["test"]} == results["test"]
    assert found["teacher"] == {"labels": "clean", "oracle": True, "probes": ["global-0.5"], "seen": "unknown"}
    assert sum(row["samples"] for row in found["by_level"]) == found["images"] == 359


@pytest.mark.parametrize(
    "settings",
    [
        ("--loss.score", "max_probability"),
        ("--loss.distance_temperature", 0.25, "--probe.sparsity", 0.7),
        ("--loss.score", "js", "--loss.level", "absolute", "--probe.sparsity", 0.7),
        ("--loss.level", "batch", "--probe.sparsity", "[0.5, 0.7]"),
        ("--method", "energy"),
        ("--method", "kd"),
        ("--probe.norm", "batch", "--optim.batch_size", 20),
        ("--probe.level_views", 2, "--views.mixing", "cutmix"),
        ("--probe.reference", 100, "--loss.score", "cross_entropy", "--data.noise", 0.3),
    ],
    ids=lambda settings: " ".join(map(str, settings)),
)
def test_the_level_is_that_of_the_run(tmp_path, good, distill, teacher, settings):
    """Its score, what it makes of it, and the views that it was calibrated on."""
    run, out = tmp_path / "run", tmp_path / "figures.json"
    good(*distill(run, *settings))
    good("evaluate", "--weights", run, "--teacher.weights", teacher, "--device", "cpu", "--out", out)
    found, results = read(out), read(run / "results.json")
    assert len(found["by_level"]) > 1
    if "kd" in settings:  # which looks at no difficulty: that of the defaults is told
        assert "by_level" not in results
    else:
        assert found["by_level"] == results["by_level"]
        assert found["teacher"]["probes"] == results["teacher"]["probes"]


def test_a_probe_that_the_run_has_no_use_for(tmp_path, dlkd, good, distill, teacher):
    run = tmp_path / "run"
    good(*distill(run, "--loss.score", "entropy"))
    asked = ("evaluate", "--weights", run, "--teacher.weights", teacher, "--device", "cpu", "--probe.sparsity", 0.5)
    done = dlkd(*asked)
    assert done.status == 2 and "whose difficulty is entropy and looks at no probe" in done.err, done.err
    assert done.err.count("\n") == 1
    good(*asked, "--data.per_class", 30)


def test_the_method_of_a_stranger_is_not_imported(tmp_path, good, distill, teacher):
    run = tmp_path / "run"
    good(*distill(run, "--method", "kd"))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("method: kd", "method: antigravity:method"))
    done = good("evaluate", "--weights", run, "--teacher.weights", teacher, "--device", "cpu")
    assert "the method of the run is antigravity:method, which would be imported and run" in done.out
    assert "antigravity" not in sys.modules and "By difficulty" in done.out


def test_memorisation_by_an_independent_loop(noisy, found):
    options = DataOptions(noise=0.4, per_class=30, held_out=0.2)
    data, clean = load_data(options), load_data(DataOptions(per_class=30, held_out=0.2))
    loaded = load_model(None, noisy, 10, channels=1)
    for name in ("train", "held_out"):
        given, true = data.part(name).labels, clean.part(name).labels
        with torch.no_grad():
            said = loaded.module(loaded.input_format(data.part(name).pixels.array / 255)).argmax(1)
        off = given != true
        shares = [100 * (said[off] == labels[off]).double().mean().item() for labels in (given, true)]
        assert found["memorisation"][name] == pytest.approx(
            {"images": int(off.sum()), "wrong_label": shares[0], "true_label": shares[1], "neither": 100 - sum(shares)},
            abs=1e-9,
        )


def test_corruptions_by_an_independent_loop(noisy, found):
    """Contrast: x ← mean + f·(x − mean), in whole numbers."""
    test, loaded = load_data(DataOptions(per_class=30)).test, load_model(None, noisy, 10, channels=1)
    x = test.pixels.array.double()
    for share, factor in zip(found["corruptions"]["accuracy"]["contrast"], (0.75, 0.15), strict=True):
        mean = x.mean(dim=(1, 2, 3), keepdim=True).floor()
        spoilt = (factor * x + (1 - factor) * mean).clamp(0, 255).floor() / 255
        with torch.no_grad():
            said = loaded.module(loaded.input_format(spoilt.float())).argmax(1)
        assert share == pytest.approx(100 * (said == test.labels).double().mean().item(), abs=1.5)
    rows = found["corruptions"]
    error = 100 - np.mean(list(rows["accuracy"].values()))
    assert rows["severities"] == [1, 5] and rows["mean_error"] == pytest.approx(error)
    assert rows["relative_error"] == pytest.approx(error - 100 + found["accuracy"])


def test_seeds_and_no_teacher(noisy, found, good, tmp_path):
    for seed in (0, 1):
        good(
            "evaluate",
            "--weights",
            noisy,
            "--device",
            "cpu",
            *CELLS,
            "--seed",
            seed,
            "--out",
            tmp_path / f"{seed}.json",
        )
    again, other = read(tmp_path / "0.json"), read(tmp_path / "1.json")
    assert again == {k: v for k, v in found.items() if k not in ("agreement", "kl_to_teacher", "by_level", "teacher")}
    a, b = (x["corruptions"]["accuracy"] for x in (again, other))
    assert a["contrast"] == b["contrast"] and a["gaussian_noise"] != b["gaussian_noise"]


def test_other_images_than_those_of_the_run(noisy, good, teacher):
    """The default level: of plain options, not of that run."""
    options = ("--data.per_class", 30, "--teacher.weights", teacher, "--split", "held_out", "--device", "cpu")
    done = good("evaluate", "--weights", noisy / "student.safetensors", *options)
    assert (
        "wrongly labelled" not in done.out
        and "oracle" not in done.out
        and "By difficulty" in done.out
        and "note: images" not in done.out
    )


def test_a_clean_run_memorises_nothing(teacher):
    assert "memorisation" not in read(teacher / "results.json")
    assert {"balanced_accuracy", "aurc", "excess_aurc"} < read(teacher / "results.json")["test"].keys()


def test_files(tmp_path, good, photos):
    good(
        *("train", "--out", tmp_path / "run", "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "folder", "--data.root", photos, "--data.image_size", 16, "--optim.batch_size", 8),
        *("--data.workers", 0, "--data.noise", 0.3, "--engine.report", "false", "--engine.tensorboard", "false"),
    )
    out = tmp_path / "figures.json"
    options = ("--weights", tmp_path / "run", "--teacher.weights", tmp_path / "run", "--device", "cpu")
    good("evaluate", *options, "--corruptions", "jpeg", "--severities", 5, "--out", out)
    found, results = read(out), read(tmp_path / "run" / "results.json")
    assert found["agreement"] == 100 and found["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert found["memorisation"] == results["memorisation"] and found["teacher"]["labels"] == "given"
    assert set(found["corruptions"]["accuracy"]) == {"jpeg"} and "top5_accuracy" not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--corruptions", "jpg"), "did you mean jpeg?"),
        (("--severities", "1,7"), "from 1 to 5"),
        (("--seed", -1), "--seed"),
        (("--probe.sparsity", 0.5), "expected --teacher.weights with --probe"),
        (("--teacher.weights", "nowhere"), "nothing"),
        (("--teacher.name", "resnet8"), "--teacher.weights"),
        (("--corruptions", "imagenet-c"), "take others, as of --corruptions all"),
    ],
)
def test_one_clear_line(dlkd, teacher, options, message):
    done = dlkd("evaluate", "--weights", teacher, "--device", "cpu", *options)
    assert done.status == 2 and done.err.startswith("dlkd: error: ") and done.err.count("\n") == 1, done.err
    assert message in done.err, done.err


@pytest.mark.parametrize("text", ["views: 3", "{probe: {sparsity: 0.1, nonsense: 2}, views: {}, seed: 1}", "views: {}"])
def test_damaged_config(tmp_path, text):
    from dlkd.errors import UserError
    from dlkd.jobs.of_run import reference_of_run

    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        reference_of_run(tmp_path, 10)
