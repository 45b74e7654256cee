"""Whatever is wrong: exit code 2, one line that says what to do, nothing half-written."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file

from dlkd.data import DataOptions, ViewOptions, load_data, view_family
from dlkd.models import build_model


def files(root):
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}


OPTIONS = [
    ("distill", ("--probe.sparsity", 1), ("--probe.sparsity", "[0, 1)", "1.0")),
    ("distill", ("--probe.sparsity", -0.1), ("--probe.sparsity", "-0.1")),
    ("distill", ("--probe.sparsity", "abc"), ("--probe.sparsity", "a number", "auto", "abc")),
    ("distill", ("--probe.sparsity", "[0.1,0.1]"), ("--probe.sparsity", "different")),
    ("distill", ("--probe.sparsity", "auto", "--probe.norm", "batch"), ("--probe.norm eval", "auto")),
    ("distill", ("--probe.masks", 2), ("--probe.criterion random",)),
    ("distill", ("--probe.norm", "batch", "--store", "store"), ("--probe.norm", "--store", "company")),
    ("distill", ("--loss.t_easy", 0), ("t_easy", "positive")),
    ("distill", ("--loss.t_hard", -2), ("t_hard", "positive")),
    ("distill", ("--method", "kd", "--loss.temperature", 0), ("temperature", "positive")),
    ("distill", ("--loss.ce_weight", -1), ("ce_weight", "at least 0")),
    ("distill", ("--method", "kd", "--loss.t_easy", 3), ("method kd has no --loss.t_easy", "temperature")),
    ("distill", ("--method", "dlkdd"), ("'dlkdd'", "did you mean 'dlkd'")),
    ("distill", ("--student.name", "resnet21"), ("'resnet21'", "did you mean")),
    ("distill", ("--student.name", "no_such_module:make"), ("no_such_module", "PYTHONPATH")),
    ("distill", ("--teacher.weights", "no/such/file"), ("no/such/file", "there is nothing")),
    ("distill", ("--teacher.name", "resnet14"), ("'resnet8x0.5'", "'resnet14'")),
    ("train", ("--model.name", "torchvision:resnt18"), ("did you mean 'torchvision:resnet18'",)),
    ("train", ("--epochs", "many"), ("--epochs", "a whole number", "many")),
    ("train", ("--epochs", 0), ("--epochs", "at least 1")),
    ("train", ("--data.noise", "x"), ("--data.noise", "a number", "x")),
    ("train", ("--data.noise", 1.5), ("--data.noise", "[0, 1]")),
    ("train", ("--data.held_out", 1), ("--data.held_out", "[0, 1)")),
    ("train", ("--optim.lr", 0), ("--optim.lr", "above 0")),
    ("train", ("--optim.lr", ".nan"), ("--optim.lr", "above 0")),
    ("train", ("--optim.optimizer", "adam"), ("sgd, adamw", "adam")),
    ("train", ("--optim.ema", 1), ("--optim.ema",)),
    ("train", ("--seed", -1), ("--seed",)),
    ("train", ("--nois", 0.1), ("--nois", "did you mean --data.noise?")),
    ("train", ("--optim.learning_rat", 0.1), ("--optim.learning_rat",)),
    ("train", ("--probe.sparsity", 0.3), ("there is no option --probe.sparsity",)),
    ("train", ("stray",), ("'stray'",)),
    ("train", ("--optim", 3), ("optim", "a group of options")),
    ("train", ("--engine.threads", 0), ("--engine.threads", "at least 1")),
    ("train", ("--device", "cuda:9"), ("cuda:9", "--device auto")),
    ("train", ("--device", "tpu"), ("'tpu'",)),
    ("train", ("--device", "mps:0"), ("mps:0",)),
    ("train", ("--engine.precision", "fp16"), ("fp16", "CPU")),
    ("train", ("--optim.batch_size", 271), ("270", "271")),
    ("train", ("--optim.batch_size", 15, "--views.mixing", "mixup"), ("even", "15")),
    ("train", ("--views.mixing_alpha", 0), ("alpha", "positive")),
    ("train", ("--views.augment", "resized_crop_flip", "--views.pad", 2), ("--views.augment crop_flip", "--views.pad")),
    ("train", ("--data.name", "cifar100", "--data.root", "none", "--data.download", "false"), ("--data.root",)),
    ("train", ("--config", "cifar100/lit"), ("'cifar100/lit'", "did you mean 'cifar100/lite'")),
]


@pytest.mark.parametrize(("command", "more", "words"), OPTIONS)
def test_options(tmp_path, dlkd, distill, train, monkeypatch, command, more, words):
    monkeypatch.chdir(tmp_path)
    arguments = {"train": train, "distill": distill}[command](tmp_path / "runs" / "new")
    refused(dlkd(*arguments, *more), *words)
    assert not list(tmp_path.iterdir())


def test_student_that_diverges(tmp_path, dlkd, train):
    grow = ("--optim.lr", "1e30")
    refused(dlkd(*train(tmp_path / "new", *grow)), "at step 1", "not finite", "sample ids", "lower --optim.lr")
    assert not (tmp_path / "new" / "checkpoint.pt").exists() and (tmp_path / "new" / "bad_batch.safetensors").exists()
    # In the very last step nothing is left but the test images to notice it.
    done = dlkd(*train(tmp_path / "last", *grow, "--optim.batch_size", 270, "--engine.evaluate_every", 0))
    assert done.status == 2 and done.err.splitlines()[-1].startswith("dlkd: error: ")
    assert "not finite" in done.err and not (tmp_path / "last" / "results.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda(tmp_path, dlkd, train):
    refused(dlkd(*train(tmp_path / "new", "--device", "cuda")), "no device cuda", "--device auto")


def test_commands_and_help(dlkd):
    refused(dlkd("trian"), "did you mean train?", "quickstart", "distill", "dlkd --help")
    refused(dlkd("evaluate"), "--weights", "missing", "as in: dlkd evaluate --weights")
    refused(dlkd("evaluate", "--data.root"), "--data.root")
    refused(dlkd("--foo", "train"), "--foo")
    refused(dlkd("evaluate", "--weights", "x", "--resume"), "there is no option --resume")
    assert dlkd("--version").out.startswith("dlkd 0.") and dlkd("--version").status == 0
    for command in ("quickstart", "train", "distill", "evaluate", "difficulty"):
        done = dlkd(command, "--help")
        assert done.status == 0 and "--out" in done.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: [1", ("recipe.yaml",)),
        ("\x00\x01", ("recipe.yaml",)),
        ("- epochs\n- 3\n", ("to hold options", "list")),
        ("", ("to hold options", "nothing")),
        ("optim:\n  lrr: 0.1\n", ("--optim.lrr", "did you mean --optim.lr?")),
        ("epoch: 3\n", ("--epoch", "did you mean --epochs?")),
        ("epochs: many\n", ("--epochs", "a whole number", "many")),
        ("optim: 3\n", ("optim", "group of options")),
        ("data: null\n", ("hold options", "nothing behind data")),
        ("seed: 1\ndata:\n", ("--data", "group of options", "nothing")),
        ("seed: 1\nquiet: true\n", ("--quiet on the command line alone",)),
        ("optim:\n  lr: [1, 2]\n", ("--optim.lr", "a number")),
    ],
)
def test_recipes(tmp_path, dlkd, train, text, words):
    (tmp_path / "recipe.yaml").write_text(text)
    refused(dlkd(*train(tmp_path / "new"), "--config", tmp_path / "recipe.yaml"), *words)
    assert not (tmp_path / "new").exists()


def test_recipe_that_is_not_text(tmp_path, dlkd, train):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00bad")
    refused(dlkd(*train(tmp_path / "new"), "--config", tmp_path / "recipe.yaml"), "recipe.yaml")


def test_out(tmp_path, dlkd, train, teacher):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("precious")
    before = files(tmp_path), files(teacher)
    refused(dlkd(*train(tmp_path / "file")), "file")
    refused(dlkd(*train(tmp_path / "file" / "run")), "could not write")
    refused(dlkd(*train(tmp_path / "folder")), "no run of dlkd", "another folder")
    refused(dlkd(*train(tmp_path / "folder"), "--overwrite"), "no run of dlkd")
    refused(dlkd(*train(teacher)), "--resume", "--overwrite")
    refused(dlkd(*train("/proc/run")), "could not write")
    assert (files(tmp_path), files(teacher)) == before


def test_teacher_of_other_classes(tmp_path, dlkd, good, train, distill):
    data = load_data(DataOptions())
    three = data.train.labels < 3
    images = data.train.pixels.array[three][:, 0].numpy()
    np.savez(tmp_path / "three.npz", train_images=images, train_labels=data.train.labels[three].numpy())
    own = ("--data.name", "npz", "--data.root", tmp_path / "three.npz")
    good(*train(tmp_path / "teacher", *own))
    refused(dlkd(*distill(tmp_path / "new", "--teacher.weights", tmp_path / "teacher")), "10 classes", "3")
    save_file(build_model("resnet8x0.5", 7, channels=1).state_dict(), tmp_path / "seven.safetensors")
    stranger = ("--teacher.name", "resnet8x0.5", "--teacher.weights", tmp_path / "seven.safetensors")
    refused(dlkd(*distill(tmp_path / "new", *stranger)), "10 classes", "have 7")
    assert not (tmp_path / "new").exists()


def test_published_teacher_of_other_classes(tmp_path, dlkd, distill):
    pytest.importorskip("timm")
    bare = [a for a in distill(tmp_path / "new", "--teacher.name", "timm:resnet18", "--teacher.pretrained", "true")]
    at = bare.index("--teacher.weights")
    del bare[at : at + 2]
    refused(dlkd(*bare), "10 classes", "1000", "random")
    assert not (tmp_path / "new").exists()


def test_weights_that_do_not_fit(tmp_path, dlkd, distill, teacher):
    state = load_file(teacher / "student.safetensors")
    moved = dict(state)
    moved["strange.weight"] = moved.pop("conv1.weight")
    save_file(moved, tmp_path / "moved.safetensors")
    name = ("--teacher.name", "resnet8x0.5")
    refused(
        dlkd(*distill(tmp_path / "new", *name, "--teacher.weights", tmp_path / "moved.safetensors")),
        "missing: conv1.weight",
        "unexpected: strange.weight",
    )
    (tmp_path / "short.safetensors").write_bytes((teacher / "student.safetensors").read_bytes()[:1000])
    refused(dlkd(*distill(tmp_path / "new", *name, "--teacher.weights", tmp_path / "short.safetensors")), "damaged")
    refused(dlkd(*distill(tmp_path / "new", "--student.weights", tmp_path / "moved.safetensors")), "conv1.weight")
    refused(dlkd(*distill(tmp_path / "new", "--teacher.weights", tmp_path / "moved.safetensors")), "--teacher.name")
    assert not (tmp_path / "new").exists()


def test_teacher_not_a_number(tmp_path, dlkd_process, distill, teacher):
    shutil.copytree(teacher, tmp_path / "broken")
    state = load_file(teacher / "student.safetensors")
    save_file(
        {k: v * float("nan") if k == "conv1.weight" else v for k, v in state.items()},
        tmp_path / "broken" / "student.safetensors",
    )
    done = dlkd_process(*distill(tmp_path / "new", "--teacher.weights", tmp_path / "broken", "--force"))
    held_out = load_data(DataOptions(per_class=30)).held_out
    refused(done, "not finite", f"sample id {held_out.ids[0]}")
    assert not (tmp_path / "new").exists()


def test_teacher_that_cannot_teach(tmp_path, dlkd, distill, teacher):
    refused(dlkd(*distill(tmp_path / "new", "--probe.sparsity", 0)), "90 % quantile", "--force")
    save_file(build_model("resnet8x0.5", 10, channels=1).state_dict(), tmp_path / "untrained.safetensors")
    stranger = ("--teacher.name", "resnet8x0.5", "--teacher.weights", tmp_path / "untrained.safetensors")
    refused(dlkd(*distill(tmp_path / "new", *stranger)), "preflight", "teacher", "--force")
    assert not (tmp_path / "new").exists()


def folder_run(out, root, *more):
    return (
        *("train", "--out", out, "--model.name", "resnet8x0.5", "--epochs", 1, "--data.name", "folder"),
        *("--data.root", root, "--data.image_size", 32, "--optim.batch_size", 8, "--device", "cpu"),
        *("--engine.threads", 1, "--engine.tensorboard", "false", "--data.workers", 0, *more),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_image(tmp_path, photos, dlkd, dlkd_process, workers):
    shutil.copytree(photos, tmp_path / "photos")
    asked = DataOptions("folder", tmp_path / "photos", held_out=0.0)
    data = load_data(asked)
    # An image of the last batch of the epoch, which the preflight has not seen.
    position = int(view_family(ViewOptions(), data, 0, 32).order(0)[3 * 8 + 5])
    path = data.train.pixels.paths[position]
    path.write_bytes(path.read_bytes()[:70])
    arguments = folder_run(tmp_path / "new", tmp_path / "photos", "--data.held_out", 0, "--data.workers", workers)
    refused((dlkd_process if workers else dlkd)(*arguments), str(path), "damaged", "replace or remove it")
    assert not (tmp_path / "new").exists()


def test_folders(tmp_path, photos, dlkd):
    new = tmp_path / "new"
    refused(dlkd(*folder_run(new, tmp_path / "none")), "none", "--data.root")
    (tmp_path / "empty").mkdir()
    refused(dlkd(*folder_run(new, tmp_path / "empty")), "at least two classes", "found 0")
    shutil.copytree(photos / "zero", tmp_path / "one_class" / "zero")
    refused(dlkd(*folder_run(new, tmp_path / "one_class")), "at least two classes", "found 1")
    (tmp_path / "one_class" / "hollow").mkdir()
    refused(dlkd(*folder_run(new, tmp_path / "one_class")), "hollow", "found none")
    assert not new.exists()


def test_arrays(tmp_path, dlkd, train):
    images = np.zeros((20, 8, 8), np.uint8)
    own = train(tmp_path / "new", "--data.name", "npz", "--data.root", tmp_path / "data.npz")
    refused(dlkd(*own), "data.npz", "--data.root")
    for labels, words in ((np.arange(20) % 3, ("labels", "2")), (np.arange(20) % 2 - 1, ("labels", "-1"))):
        np.savez(tmp_path / "data.npz", train_images=images, train_labels=labels, class_names=["a", "b"])
        refused(dlkd(*own), *words)
    np.savez(tmp_path / "data.npz", train_images=images, train_labels=np.zeros(20, int))
    refused(dlkd(*own), "two classes")
    (tmp_path / "data.npz").write_bytes(b"PK nonsense")
    refused(dlkd(*own), "damaged")
    assert not (tmp_path / "new").exists()


def test_interrupted_download(tmp_path, dlkd_process, train):
    root = tmp_path / "data"
    root.mkdir()
    (root / "cifar-100-python.tar.gz").write_bytes(b"\x1f\x8b" + bytes(5000))
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    own = ("--data.name", "cifar100", "--data.root", root)
    refused(dlkd_process(*train(tmp_path / "new", *own), env=nowhere), "could not download cifar100", str(root))
    assert not (tmp_path / "new").exists()


def test_damaged_download(tmp_path, dlkd, train):
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    refused(dlkd(*train(tmp_path / "new", "--data.name", "cifar10", "--data.root", tmp_path / "data")), "damaged")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a small disk below the test's folder; how large is in kB."""
    mounted = []

    def mount(size):
        folder = tmp_path / f"disk{size}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip("no right to mount a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("tensorboard", ["true", "false"])
def test_full_disk_before_the_first_checkpoint(small_disk, dlkd, train, tensorboard):
    disk = small_disk(100)
    refused(dlkd(*train(disk / "run", "--engine.tensorboard", tensorboard)), "could not write", "is the disk full?")
    assert not list(disk.iterdir())


def test_full_disk_later_on(small_disk, dlkd, train):
    disk = small_disk(500)
    done = dlkd(*train(disk / "run", "--epochs", 50, "--engine.checkpoint_every", 1))
    refused(done, "could not write", "checkpoint.pt", "is the disk full?")
    left = {p.name for p in (disk / "run").iterdir()}
    assert left == {"run.json", "config.yaml", "labels.npz", "checkpoint.pt", "checkpoint.previous.pt"}


def test_file_size_limit(tmp_path, train):
    code = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\nfrom dlkd.cli import main\nmain(sys.argv[1:])"
    )
    arguments = [sys.executable, "-c", code, *map(str, train(tmp_path / "run"))]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is the disk full?" in done.stderr
    assert not (tmp_path / "run").exists()
