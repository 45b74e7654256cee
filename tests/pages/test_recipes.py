"""Every shipped recipe can be run as its first lines say."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from recipe_heads import commands

import dlkd
from dlkd.data import ViewOptions
from dlkd.errors import UserError
from dlkd.pages.recipes import _ROOT, recipe_names, resolve_config, with_config_files
from dlkd.train.optim import OptimOptions


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


FIGURES = {
    # LSKD (Sun et al., CVPR 2024), Table 2: teacher, student alone, KD, DKD. The last number is β of DKD, from
    # mdistiller a08d46f, configs/cifar100/dkd and configs/imagenet, 8 where a file there names none; None: no file.
    "cifar100/resnet56-resnet20": (72.34, 69.06, 70.66, 71.97, 2),
    "cifar100/resnet110-resnet20": (74.31, 69.06, 70.67, 71.06, None),
    "cifar100/resnet110-resnet32": (74.31, 71.14, 73.08, 74.11, 2),
    "cifar100/resnet32x4-resnet8x4": (79.42, 72.50, 73.33, 76.32, 8),
    "cifar100/wrn40_2-wrn16_2": (75.61, 73.26, 74.92, 76.24, 6),
    "cifar100/wrn40_2-wrn40_1": (75.61, 71.98, 73.54, 74.81, 6),
    "cifar100/vgg13-vgg8": (74.64, 70.36, 72.98, 74.68, 6),
    # TTM (Zheng and Yang, ICLR 2024), Table 3; DKD of the last: README of SDD (CVPR 2024).
    "cifar100/resnet32x4-shufflenet_v1": (79.42, 70.50, 74.07, 76.45, 8),
    "cifar100/resnet32x4-shufflenet_v2": (79.42, 71.82, 74.45, 77.07, 8),
    "cifar100/wrn40_2-shufflenet_v1": (75.61, 70.50, 74.83, 76.70, 8),
    "cifar100/vgg13-mobilenet_v2": (74.64, 64.60, 67.37, 69.71, 6),
    "cifar100/resnet50-mobilenet_v2": (79.34, 64.60, 67.35, 70.35, 8),
    "cifar100/resnet50-vgg8": (79.34, 70.36, 73.81, 75.34, None),
    # LSKD, Table 3; KD and DKD also in the README of mdistiller.
    "imagenet/resnet34-resnet18": (73.31, 69.75, 71.03, 71.70, 0.5),
    "imagenet/resnet50-mobilenet_v1": (76.16, 68.87, 70.50, 72.05, 2),
}
"""Best test epoch, top-1 accuracy in %."""


def test_every_recipe_is_in_the_docs_with_its_published_figures():
    docs = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    for name in recipe_names():
        assert f"`{name}`" in docs, name
        row = re.search(rf"^\| `{name}` \|((?: [0-9.]+ \|){{4}}.*)$", docs, re.MULTILINE)
        published = re.search(r"Published, best.*?\(", " ".join(resolve_config(name).read_text().split()))
        assert (row is None) == (published is None) == (name not in FIGURES), name
        if row is not None:
            *figures, beta = FIGURES[name]
            assert [float(x) for x in re.findall(r"\d+\.\d+", row[1])] == figures, name
            assert [float(x) for x in re.findall(r"\d+\.\d+", published[0])] == figures, name
            last = row[1].strip(" |").split(" | ")[4:]
            assert last == ([] if name.startswith("imagenet/") else ["–" if beta is None else str(beta)]), name


@pytest.mark.parametrize(
    ("name", "student"), [("resnet34-resnet18", "ResNet-18"), ("resnet50-mobilenet_v1", "MobileNetV1")]
)
def test_the_page_says_what_was_published_on_imagenet(name, student):
    # mdistiller a08d46f, configs/imagenet/*/kd.yaml and dkd.yaml
    docs = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    assert "--method kd --loss.temperature 1 --loss.ce_weight 0.5 --loss.kd_weight 0.5\n" in docs
    assert "--method dkd --loss.temperature 1 --loss.warmup_epochs 1" in docs
    beta = FIGURES[f"imagenet/{name}"][-1]
    assert re.search(rf"--loss.beta {beta} .*{student}|{student}: --loss.beta {beta}$", docs, re.MULTILINE)


SOLVER = {
    **{"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "decay_of": "all", "schedule": "step", "decay": 0.1},
    **{"warmup_epochs": 0.0, "accumulate": 1, "clip": None, "ema": None},
}
"""mdistiller a08d46f, engine/trainer.py and utils.py: torch's SGD over all parameters, × 0.1 at three epochs."""
NO_OTHER_VIEWS = {
    **{
        "flip": None,
        "policy": "none",
        "jitter": 0.0,
        "erase": "none",
        "mixing": "none",
        "seed": None,
        "strong": "auto",
    },
}
"""Half of the views are mirrored, and that is all after the crop."""


def of(options, page):
    """All options of a kind, those that the page leaves out as well."""
    return asdict(options(**{key: tuple(v) if isinstance(v, list) else v for key, v in page.items()}))


def check_published(name, solver, views, **others):
    """The page ``name`` is mdistiller's ``solver`` and ``views``, and holds nothing but these and ``others``."""
    page = yaml.safe_load(resolve_config(name).read_text())
    assert {key: value for key, value in page.items() if key not in ("optim", "views")} == others
    assert of(OptimOptions, page["optim"]) == SOLVER | solver
    found = of(ViewOptions, page["views"])
    assert {key: found[key] for key in NO_OTHER_VIEWS | views} == NO_OTHER_VIEWS | views
    assert set(page["views"]) == set(views)


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
    # mdistiller a08d46f, configs/cifar100 and dataset/cifar100.py: RandomCrop(32, padding=4), mirrored
    lr = 0.01 if student.startswith(("mobilenet", "shufflenet")) else 0.05
    check_published(
        f"cifar100/{teacher.removeprefix('cifar:')}-{student}",
        {"lr": lr, "weight_decay": 5e-4, "batch_size": 64, "milestones": (150 / 240, 180 / 240, 210 / 240)},
        {"augment": "crop_flip", "pad": 4},
        epochs=240,
        method="dlkd",
        data={"name": "cifar100", "held_out": 0.0},
        student={"name": student},
        teacher={"name": teacher},
    )


def test_every_pair_of_the_literature_is_there():
    names = {f"cifar100/{t.removeprefix('cifar:')}-{s}" for t, students in PAIRS.items() for s in students}
    assert names == {name for name in recipe_names() if re.match(r"cifar100/.*-", name)}
    assert names == {name for name in FIGURES if name.startswith("cifar100/")}


@pytest.mark.parametrize(
    ("name", "teacher", "student"),
    [
        ("imagenet/resnet34-resnet18", "torchvision:resnet34", "torchvision:resnet18"),
        # mdistiller's are torchvision's first, which timm keeps under this name.
        ("imagenet/resnet50-mobilenet_v1", "timm:resnet50.tv_in1k", "mobilenet_v1"),
    ],
)
def test_published_settings_on_imagenet(name, teacher, student):
    # mdistiller a08d46f, configs/imagenet and dataset/imagenet.py: RandomResizedCrop(224) from 8 % on, mirrored
    check_published(
        name,
        {"lr": 0.2, "weight_decay": 1e-4, "batch_size": 512, "milestones": (30 / 100, 60 / 100, 90 / 100)},
        {"augment": "resized_crop_flip", "scale": 0.08},
        epochs=100,
        method="dlkd",
        data={"name": "imagenet", "held_out": 0.0, "image_size": 224},
        student={"name": student},
        teacher={"name": teacher, "pretrained": True, "seen": "train", "labels": "clean"},
        engine={"channels_last": True},
    )


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
