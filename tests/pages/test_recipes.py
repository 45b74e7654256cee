"""Every shipped recipe can be run as its first lines say."""

import re
from pathlib import Path

import pytest
import yaml
from recipe_heads import commands

import dlkd
from dlkd.errors import UserError
from dlkd.pages.recipes import _ROOT, recipe_names, resolve_config, with_config_files


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_there_are_recipes():
    assert recipe_names() == sorted(recipe_names()) and "cifar100/lite" in recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_runs_as_its_head_says(dlkd, name):
    lines = commands(name)
    assert lines, "no command line in the first lines"
    for line in lines:
        _, command, *options = line
        given = list(zip(options[::2], options[1::2], strict=True))
        assert ("--config", name) in given or line != lines[-1]
        done = dlkd(command, *options, "--print_config")
        assert done.status == 0, done.err
        resolved = dict(flat(yaml.safe_load(done.out)))
        # The later recipe wins, and the command line over all.
        wanted = {}
        for key, value in given:
            if key == "--config":
                wanted |= dict(flat(yaml.safe_load(resolve_config(value).read_text())))
        for key, value in wanted.items():
            assert resolved[key] == value or f"--{key}" in dict(given), key
        assert all(str(resolved[k[2:]]) == v for k, v in given if k != "--config")
        # What only the user knows is in the command line, and it is all there.
        if resolved["data.name"] != "digits":
            assert "--data.root" in dict(given)
        if command == "distill" and resolved["method"] != "ce":
            assert "--teacher.weights" in dict(given) or resolved["teacher.pretrained"]
        assert "--out" in dict(given)


def test_every_recipe_is_in_the_docs_with_its_published_figures():
    docs = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    for name in recipe_names():
        assert f"`{name}`" in docs, name
        found = re.search(rf"^\| `{name}` \|((?: [0-9.]+ \|){{4}})", docs, re.MULTILINE)
        published = re.search(r"Published.*?\(", " ".join(resolve_config(name).read_text().split()))
        if found is not None:
            assert re.findall(r"\d+\.\d+", found[1]) == re.findall(r"\d+\.\d+", published[0]), name


PAIRS = {
    "resnet56": ("resnet20",),
    "resnet110": ("resnet20", "resnet32"),
    "resnet32x4": ("resnet8x4", "shufflenet_v1", "shufflenet_v2"),
    "wrn40_2": ("wrn16_2", "wrn40_1", "shufflenet_v1"),
    "cifar:vgg13": ("vgg8", "mobilenet_v2"),
    "cifar:resnet50": ("mobilenet_v2", "vgg8"),
}
"""The standard pairs of the literature on CIFAR-100."""


@pytest.mark.parametrize(("teacher", "student"), [(t, s) for t, students in PAIRS.items() for s in students])
def test_published_settings_of_the_pairs(teacher, student):
    # mdistiller a08d46f, configs/cifar100
    found = yaml.safe_load(resolve_config(f"cifar100/{teacher.removeprefix('cifar:')}-{student}").read_text())
    assert (found["teacher"]["name"], found["student"]["name"]) == (teacher, student)
    optim, epochs = found["optim"], found["epochs"]
    assert [round(share * epochs, 9) for share in optim["milestones"]] == [150, 180, 210] and epochs == 240
    assert optim["lr"] == (0.01 if student.startswith(("mobilenet", "shufflenet")) else 0.05)
    assert (optim["batch_size"], optim["momentum"], optim["weight_decay"]) == (64, 0.9, 5e-4)
    assert (optim["decay_of"], optim["decay"], found["data"]["held_out"]) == ("all", 0.1, 0)


def test_recipes_are_shipped_with_the_package():
    assert _ROOT.is_relative_to(dlkd.__path__[0])


def test_files_and_names(tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3")
    assert resolve_config(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    mine = f"--config={tmp_path / 'mine.yaml'}"
    found = with_config_files(["train", "--config", "cifar100/lite", mine, "--x"])
    assert found == ["train", "--config", str(_ROOT / "cifar100/lite.yaml"), mine, "--x"]
    with pytest.raises(UserError, match="did you mean 'cifar100/lite'"):
        resolve_config("cifar10/lite")


def test_last_word_has_the_command_line(tmp_path, dlkd):
    (tmp_path / "a.yaml").write_text("epochs: 3\noptim: {lr: 0.3, batch_size: 7}")
    (tmp_path / "b.yaml").write_text("optim: {lr: 0.4}")
    done = dlkd(
        "train", "--config", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml", "--epochs", 9, "--print_config"
    )
    found = yaml.safe_load(done.out)
    assert (found["epochs"], found["optim"]["lr"], found["optim"]["batch_size"]) == (9, 0.4, 7)
