"""What a user of ``dlkd audit`` may get wrong."""

import shutil

import pytest
from refusals import refused
from safetensors.torch import save_file

from dlkd.data import DataOptions, load_data
from dlkd.models import InputFormat, build_model, save_student

MACHINE = ("--device", "cpu", "--engine.threads", 1)
FOLDER = (
    *("--data.name", "folder", "--data.image_size", 16, "--data.workers", 0, "--data.test_share", 0.3, *MACHINE),
    *("--model.name", "resnet8x0.5", "--epochs", 1, "--optim.batch_size", 7, "--folds", 2, "--data.held_out", 0),
)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("--teacher.weights", "--folds 5", "neither")),
        (("--folds", 5, "--teacher.weights", "x"), ("--folds or --teacher", "both")),
        (("--folds", 5, "--heads_only"), ("--model.weights or --model.pretrained",)),
        (("--heads_only", "--teacher.weights", "x"), ("--folds and --model.weights",)),
        (("--folds", 1), ("--folds to be at least 2, but got 1",)),
        (("--folds", 5, "--data.per_class", 4), ("at least 5 training images of every class for 5 folds", "'0' has 4")),
        (("--folds", 5, "--data.folds", 5, "--data.fold", 0), ("instead of --data.folds",)),
        (("--folds", 5, "--data.cleaned", "x.csv"), ("no --data.cleaned",)),
        (("--folds", 5, "--data.labelled", 0.5), ("--data.labelled", "as they were given")),
        (("--folds", 5, "--epochs", 0), ("--epochs to be at least 1",)),
        (("--folds", 5, "--augmented", -1), ("--augmented to be at least 0",)),
        (("--folds", 5, "--thumbnail_side", 4), ("--thumbnail_side to be at least 8",)),
        (("--folds", 5, "--distance_temperature", 0), ("--distance_temperature to be positive",)),
        (("--folds", 5, "--distance_temperature", "nan"), ("--distance_temperature",)),
        (("--folds", 5, "--optim.lr", -1), ("--optim.lr",)),
        (("--teacher.weights", "nowhere"), ("nowhere", "there is nothing")),
        (("--folds", 5, "--table", "html"), ("--table",)),
        (("--folds", 5, "--data.name", "folder", "--data.root", "nowhere"), ("nowhere", "--data.root")),
    ],
)
def test_one_clear_line_and_nothing_left(dlkd, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    refused(dlkd("audit", "--out", "out/audit", *MACHINE, *arguments), *parts)
    assert not any(p.name == "audit" for p in tmp_path.rglob("*"))


def test_no_pretrained_network(dlkd, tmp_path):
    out, heads = tmp_path / "out", ("--heads_only", "--folds", 2, "--data.per_class", 6, *MACHINE)
    refused(dlkd("audit", "--out", out, *heads, "--model.weights", tmp_path / "no.pt"), "no.pt")
    assert not out.exists()


@pytest.mark.parametrize("judges", [("--folds", 2), ("--teacher.weights", "x")])
def test_a_folder_that_cannot_be_written(dlkd, tmp_path, judges):
    (tmp_path / "file").write_text("mine")
    refused(dlkd("audit", "--out", tmp_path / "file/audit", *MACHINE, *judges), "could not write", "--out")
    refused(dlkd("audit", "--out", tmp_path / "file", *MACHINE, *judges), "--out")
    assert (tmp_path / "file").read_text() == "mine"


def test_labels_that_are_missing(photos, dlkd, tmp_path):
    rows = [f"{photos / c / f'{k:02d}.png'},{c}" for c in ("zero", "one") for k in range(10)]
    rows[7] = rows[7].rpartition(",")[0] + ","
    (tmp_path / "images.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    out = tmp_path / "out"
    options = ("--data.name", "table", "--data.root", tmp_path / "images.csv", "--folds", 2, *MACHINE)
    refused(dlkd("audit", "--out", out, *options), "a label in every row", "row 8 has none")
    assert not out.exists()


def test_a_damaged_image(photos, dlkd, tmp_path):
    root = shutil.copytree(photos, tmp_path / "photos")
    file = load_data(DataOptions("folder", root, folds=2, fold=0, test_share=0.3)).train.pixels.paths[5]
    file.write_bytes(file.read_bytes()[:60])
    refused(dlkd("audit", "--out", tmp_path / "out", "--data.root", root, *FOLDER), file.name)
    assert not (tmp_path / "out").exists()


def test_a_network_that_does_not_end_with_a_linear_layer(own_module, dlkd, tmp_path):
    """One in the middle is no classifier."""
    own_module(
        "ends_with_a_convolution",
        """
from torch import nn

class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.middle, self.end = nn.Linear(8, 8), nn.Conv2d(1, num_classes, 8)

    def forward(self, images):
        return self.end(self.middle(images)).flatten(1)

def make(num_classes, **_):
    return Network(num_classes)
""",
    )
    from ends_with_a_convolution import make

    save_file(make(10).state_dict(), tmp_path / "weights.safetensors")
    done = dlkd(
        *("audit", "--out", tmp_path / "out", "--heads_only", "--folds", 2, "--data.per_class", 6, *MACHINE),
        *("--model.name", "ends_with_a_convolution:make", "--model.weights", tmp_path / "weights.safetensors"),
    )
    refused(done, "a linear classifier at the end of --model.name ends_with_a_convolution:make")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_library_s_network(photos, dlkd, tmp_path):
    """Their layers have the same names, so that they could be loaded; told before any image is looked at."""
    state = build_model("timm:resnet18", 2).state_dict()
    about = {"num_classes": 2, "channels": 3, "input_format": InputFormat(), "class_names": ("one", "zero"), "card": {}}
    save_student(tmp_path / "run", state, name="timm:resnet18", **about)
    done = dlkd(
        *("audit", "--out", tmp_path / "out", "--data.root", photos, *FOLDER, "--heads_only"),
        *("--model.name", "torchvision:resnet18", "--model.weights", tmp_path / "run"),
    )
    refused(done, "expected the model 'timm:resnet18'", "but got 'torchvision:resnet18'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("said", ["auto", "none"])
def test_features_that_are_not_finite(own_module, dlkd, tmp_path, said):
    """Of three images the network says nothing that a classifier could learn from: they are named."""
    data = load_data(DataOptions(per_class=6, held_out=0.0)).train
    ink = data.pixels.array.float().sum(dim=(1, 2, 3))
    own_module(
        "overflows",
        f"""
from torch import nn

class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.middle, self.end = nn.Linear(64, 64), nn.Linear(64, num_classes)

    def forward(self, images):
        ink = (255 * images).round().sum(dim=(1, 2, 3))
        much = ink[:, None] >= {float(ink.topk(3).values[-1]) - 0.5}
        return self.end(self.middle(images.flatten(1)).masked_fill(much, float("inf")))

def make(num_classes, **_):
    return Network(num_classes)
""",
    )
    from overflows import make

    save_file(make(10).state_dict(), tmp_path / "weights.safetensors")
    done = dlkd(
        *("audit", "--out", tmp_path / "out", "--heads_only", "--folds", 2, "--data.per_class", 6, *MACHINE),
        *("--model.name", "overflows:make", "--model.weights", tmp_path / "weights.safetensors"),
        *("--teacher.seen", said),
    )
    worst = data.ids[(ink >= ink.topk(3).values[-1]).numpy()].tolist()
    refused(done, "is not finite for sample ids", worst)
    assert not (tmp_path / "out").exists()


def test_a_network_with_nothing_to_prune(own_module, dlkd, tmp_path):
    own_module(
        "one_layer",
        """
from torch import nn

def make(num_classes, **_):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
""",
    )
    from one_layer import make

    save_file(make(10).state_dict(), tmp_path / "weights.safetensors")
    done = dlkd(
        *("audit", "--out", tmp_path / "out", "--heads_only", "--folds", 2, "--data.per_class", 6, *MACHINE),
        *("--model.name", "one_layer:make", "--model.weights", tmp_path / "weights.safetensors"),
    )
    refused(done, "could not make the probe of --model.name one_layer:make", "to prune")
    assert not (tmp_path / "out").exists()
