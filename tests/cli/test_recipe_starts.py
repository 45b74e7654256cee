"""Every shipped recipe is started: the commands of its head, but for the sizes, on a few images in official layout."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recipe_heads import commands
from safetensors.torch import save_file

from dlkd.models import InputFormat, build_model, load_model, save_student
from dlkd.pages.recipes import recipe_names

sys.path.append(str(Path(__file__).parents[1] / "data"))
from layouts import LAYOUTS, cifar

CLASSES, EACH = 2, 6
"""Classes of CIFAR that have images, and training images of each; one of six is held out, where any is."""
CIFAR = ("cifar10", "cifar100")
SIZES = {
    **{"--epochs": 1, "--optim.batch_size": 4, "--optim.accumulate": 1, "--data.workers": 0, "--device": "cpu"},
    **{"--engine.threads": 1, "--engine.tensorboard": "false", "--engine.report": "false"},
}
FILE_SIDE = 32


def some_wrong(labels, classes):
    return np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % classes, labels)


@pytest.fixture(scope="module")
def given(tmp_path_factory, photos):
    """What only the user has: files of labels in a folder, and by the name of a data set its root and class names."""
    home, sets = tmp_path_factory.mktemp("given"), {"folder": (photos, ["one", "zero"])}
    with pytest.MonkeyPatch.context() as patch:
        labels = {}
        for name in CIFAR:
            _, labels[name], *_, names = cifar(home / name, name, patch, EACH, CLASSES)
            sets[name] = (home / name, names)
        sets |= {name: (home / name, build(home / name)[0]) for name, (build, _) in LAYOUTS.items()}
        ten, hundred = labels["cifar10"], labels["cifar100"]
        torch.save({"clean_label": hundred, "noisy_label": some_wrong(hundred, 100)}, home / "CIFAR-100_human.pt")
        people = {name: some_wrong(ten, 10) for name in ("aggre_label", "worse_label", "random_label1")}
        torch.save({"clean_label": ten, **people}, home / "CIFAR-10_human.pt")
        np.savetxt(home / "matrix.csv", 0.6 * np.eye(100) + 0.4 * np.roll(np.eye(100), 1, axis=1), delimiter=",")
        yield home, sets


@pytest.fixture(scope="module")
def started():
    """The folders of the runs that were started, by their command: two heads may train the same teacher."""
    return {}


def random_weights(path, name, class_names):
    """A file of random weights of a model; the folder of a run where no name is given, which a file needs."""
    if path.exists():
        return path
    torch.manual_seed(0)
    model = build_model(name or "resnet20", len(class_names))
    path.parent.mkdir(parents=True, exist_ok=True)
    if name is None:
        about = {"num_classes": len(class_names), "class_names": class_names, "channels": 3, "card": {}}
        save_student(path, model.state_dict(), name="resnet20", input_format=InputFormat(), **about)
    elif path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save({"model": model.state_dict()}, path)
    return path


def small(wanted, given, runs, tmp_path):
    """What the user has, in place of what the head calls it, and the sizes; published weights cannot be fetched."""
    home, sets = given
    root, class_names = sets[wanted["data"]["name"]]
    found = {"--data.root": root, "--out": tmp_path / wanted["out"], **SIZES}
    if wanted["data"]["noise_file"]:
        found["--data.noise_file"] = home / wanted["data"]["noise_file"]
    groups = {"model", "student", "teacher"} & wanted.keys()
    for group in groups:
        weights, published = wanted[group]["weights"], wanted[group]["pretrained"]
        if weights or published:
            path = home / "weights" / wanted["data"]["name"] / (weights or f"{wanted[group]['name']}.safetensors")
            own = runs.get(weights) or random_weights(path, wanted[group]["name"], class_names)
            found |= {f"--{group}.weights": own, f"--{group}.pretrained": "false"}
    if wanted["data"]["name"] not in CIFAR:
        found |= {"--data.image_size": FILE_SIDE, **{f"--{group}.resolution": FILE_SIDE for group in groups}}
    elif not wanted["data"]["held_out"]:
        found |= {"--data.per_class": 1, "--optim.batch_size": 2}
    return found | ({"--probe.reference": 8} if "teacher" in groups else {})


def starts_elsewhere(command, name):
    """Is this the command of another page, which starts it itself, though on other images?"""
    configs = [value for option, value in pairwise(command) if option == "--config"]
    return name not in configs and ["dlkd", *command] not in commands(configs[-1])


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_starts(name, given, started, good, tmp_path):
    runs = {}
    for _, *command in commands(name):
        if tuple(command) not in started and not starts_elsewhere(command, name):
            started[tuple(command)] = start(command, given, runs, good, tmp_path)
        if tuple(command) in started:
            runs[command[command.index("--out") + 1]] = started[tuple(command)]


def start(command, given, runs, good, tmp_path):
    """Run it, look at what it left, and give its folder."""
    wanted = yaml.safe_load(good(*command, "--print_config").out)
    wanted["out"] = command[command.index("--out") + 1]
    options = small(wanted, given, runs, tmp_path)
    force = ["--force"] if command[0] == "distill" else []  # the teacher knows next to nothing
    good(*command, *force, *(x for option in options.items() for x in option))
    results = json.loads((options["--out"] / "results.json").read_text())
    taught = wanted["student" if command[0] == "distill" else "model"]["name"]
    assert (results["command"], results["student"], results["epochs"]) == (command[0], taught, 1)
    assert results["method"]["name"] == wanted.get("method", "ce")
    class_names = given[1][wanted["data"]["name"]][1]
    assert load_model(taught, options["--out"], len(class_names)).class_names == tuple(class_names)
    noisy = wanted["data"]["noise"] or wanted["data"]["noise_file"]
    assert (results["noise"] or {}).get("kind") == (wanted["data"]["noise_kind"] if noisy else None)
    if "teacher" in wanted and wanted["teacher"]["weights"] in runs:
        # The command before trained it: it has not seen what is held out here, and had the same labels.
        assert (results["teacher"]["seen"], results["teacher"]["labels"]) == ("kept", "given")
    return options["--out"]
