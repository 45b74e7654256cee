"""Every shipped recipe can be run as its first lines say."""

import shlex

import pytest
import yaml

import dlkd
from dlkd.cli.recipes import _ROOT, recipe_names, resolve_config, with_config_files
from dlkd.errors import UserError


def commands(text):
    """The command lines in the comment at the head of a recipe."""
    head = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    return [shlex.split(line) for line in head if line.startswith("dlkd ")]


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
    text = resolve_config(name).read_text()
    lines = commands(text)
    assert lines, "no command line in the first lines"
    for _, command, *options in lines:
        assert options[options.index("--config") + 1] == name
        done = dlkd(command, *options, "--print_config")
        assert done.status == 0, done.err
        resolved = dict(flat(yaml.safe_load(done.out)))
        for key, value in flat(yaml.safe_load(text)):
            assert resolved[key] == value, key
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert all(str(resolved[k[2:]]) == v for k, v in given.items() if k != "--config")
        # What only the user knows is in the command line, and it is all there.
        if resolved["data.name"] != "digits":
            assert "--data.root" in given
        if command == "distill" and resolved["method"] != "ce":
            assert "--teacher.weights" in given or resolved["teacher.pretrained"]
        assert "--out" in given


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
