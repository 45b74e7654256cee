"""One word for a group of options says the same as the group written out, whatever a folder is called."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from dlkd.cli.commands import COMMANDS
from dlkd.cli.main import _parser
from dlkd.compare.study import CompareOptions, plan
from dlkd.errors import UserError
from dlkd.pages.open_groups import taken_out
from dlkd.pages.places import with_places, with_underscores
from dlkd.pages.plain_yaml import plain_values

GROUPS = {"data", "teacher", "student", "model"}
AWKWARD = (
    "my photos",
    "2024",
    "1e5",
    "null",
    "~",
    "true",
    "a: b",
    "#x",
    "x #y",
    "[a]",
    "[a] b",
    "{b}",
    "-dash",
    "x,y",
    "a.json",
    "'q'",
    "a=b",
    "a:b",
    "ö",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a folder of each of these names."""

    def make(*names):
        for name in names:
            (tmp_path / name).mkdir(parents=True)
        return tmp_path

    monkeypatch.chdir(tmp_path)
    return make


@pytest.fixture(scope="module")
def parsed():
    """What the parser of a command makes of arguments."""
    parsers = {name: _parser(name, COMMANDS[name], filled=True) for name in ("train", "distill")}

    def parse(command, *arguments):
        with plain_values():
            return parsers[command].parse_args(with_places(arguments, GROUPS))

    return parse


def test_a_word_is_the_options_that_it_stands_for(here, parsed):
    here("photos", "runs/teacher")
    Path("runs/file.pth").touch()
    found = parsed("distill", "--data", "photos", "--teacher", "runs/teacher", "--student=timm:resnet10t")
    assert (found.data.name, found.data.root) == ("folder", Path("photos"))
    assert (found.teacher.name, found.teacher.weights, found.teacher.pretrained) == (None, Path("runs/teacher"), False)
    assert (found.student.name, found.student.weights, found.student.pretrained) == ("timm:resnet10t", None, False)
    found = parsed("distill", "--teacher", "timm:resnet18")
    assert (found.teacher.name, found.teacher.weights, found.teacher.pretrained) == ("timm:resnet18", None, True)
    # Weights of a named network, whichever of the two is the word.
    for arguments in (
        ("--teacher", "resnet20", "--teacher.weights", "runs/file.pth"),
        ("--teacher.name", "resnet20", "--teacher", "runs/file.pth"),
    ):
        found = parsed("distill", *arguments).teacher
        assert (found.name, found.weights, found.pretrained) == ("resnet20", Path("runs/file.pth"), False), arguments


@pytest.mark.parametrize(
    ("make", "name"),
    [
        ("photos/", "folder"),
        ("c/cifar-100-python/", "cifar100"),
        ("c/cifar-10-batches-py/", "cifar10"),
        ("a.npz", "npz"),
        ("a.CSV", "table"),
        ("a.parquet", "table"),
        ("a.tar", "webdataset"),
    ],
)
def test_the_kind_of_data_is_read_from_what_is_there(here, make, name):
    place = make.split("/")[0]
    here(make) if make.endswith("/") else Path(place).touch()
    root = os.path.join(".", place)
    assert with_places(["--data", place], GROUPS) == [f"--data.name={name}", f"--data.root={root}"]


def test_a_folder_of_a_hugging_face_model_is_one_and_that_of_a_run_is_not(here):
    here("published", "run")
    for folder, files in (("published", ["config.json"]), ("run", ["config.json", "student.json"])):
        for file in files:
            (Path(folder) / file).touch()
    assert with_places(["--model", "published"], GROUPS) == ["--model.name=hf:published"]
    assert with_places(["--model", "run"], GROUPS) == ["--model.weights=./run"]


def test_folders_whose_names_mean_something_to_yaml(here, parsed):
    here(*AWKWARD)
    for name in AWKWARD:
        found = parsed("distill", "--data", name, "--teacher", name, "--student", name)
        assert (found.data.name, found.data.root) == ("folder", Path(name)), name
        assert found.teacher.weights == found.student.weights == Path(name)


def test_the_same_within_the_page_of_a_study(here):
    here(*AWKWARD)
    for name in AWKWARD:
        arguments = with_places(["--run.data", name, f"--run.teacher={name}"], {"run"})
        rest, page = taken_out(arguments, {"run": False})
        assert rest == []
        (cell, *_) = plan(CompareOptions(run=page["run"], methods=["kd"], seeds=1))
        assert (cell.options.data.name, cell.options.data.root) == ("folder", Path(name)), name
        assert (cell.options.teacher.weights, cell.options.teacher.pretrained) == (Path(name), False)


def test_a_group_of_another_command_is_left_alone(here):
    here("photos")
    for arguments in (["--data", "photos"], ["--data=photos"], ["--out", "--data"], ["photos"]):
        assert with_places(arguments, {"model"}) == arguments
    assert with_places(["--run.data", "photos"], GROUPS) == ["--run.data", "photos"]


def test_pages_are_left_to_the_parser(here, parsed):
    here("photos")
    Path("page.yaml").write_text(yaml.safe_dump({"name": "folder", "root": "photos", "held_out": 0.25}))
    for value in ("page.yaml", "{name: folder, root: photos, held_out: 0.25}"):
        assert with_places(["--data", value], GROUPS) == ["--data", value]


def test_a_recipe_with_another_teacher_gives_way_to_the_word(here, parsed):
    here("runs/teacher")
    Path("file.pth").touch()
    Path("recipe.yaml").write_text(yaml.safe_dump({"teacher": {"name": "resnet20", "weights": "file.pth"}}))
    found = parsed("distill", "--config", "recipe.yaml", "--teacher", "timm:resnet18").teacher
    assert (found.name, found.weights, found.pretrained) == ("timm:resnet18", None, True)
    Path("recipe.yaml").write_text(yaml.safe_dump({"teacher": {"pretrained": True}}))
    found = parsed("distill", "--config", "recipe.yaml", "--teacher", "runs/teacher").teacher
    assert (found.weights, found.pretrained) == (Path("runs/teacher"), False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data"], "expected a value after --data, but got none"),
        (["--data", "--epochs", "3"], "expected a value after --data, but got none"),
        (["--data="], "expected a value after --data, but got none"),
        (["--data", "fotos"], "but got 'fotos': there is nothing of this name"),
        (["--data", "a.txt"], "but got 'a.txt': a file of another kind"),
        (
            ["--teacher", "runs/nothing"],
            "but there is no runs/nothing; for a model of the Hugging Face hub give --teacher hf:runs/nothing",
        ),
        (["--model", "gone.PTH"], "to be a name or a file or folder of weights, but there is no gone.PTH"),
        (["--data", "digits"], "give ./digits for the folder, or --data.name digits"),
        (["--student", "resnet8"], "give ./resnet8 for its weights, or --student.name resnet8"),
    ],
)
def test_what_stands_for_nothing_or_for_two_things(here, arguments, message):
    here("digits", "resnet8")
    Path("a.txt").touch()
    with pytest.raises(UserError) as raised:
        with_places(arguments, GROUPS)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_way_out_where_a_name_is_a_folder_too(here, parsed):
    here("digits", "cifar10", "resnet8")
    assert parsed("train", "--data", "./digits").data.root == Path("digits")
    found = parsed("train", "--data", "cifar10", "--data.root", "cifar10").data
    assert (found.name, found.root) == ("cifar10", Path("cifar10"))
    assert parsed("train", "--model", "./resnet8").model.weights == Path("resnet8")


def test_dashes_are_underscores_in_names_of_options_alone():
    given = ["--with-baseline", "--optim.batch-size=a-b", "--out", "my-run", "--methods.kd-2.x-y", "3", "-x-y"]
    assert with_underscores(given, {"methods"}) == [
        "--with_baseline",
        "--optim.batch_size=a-b",
        "--out",
        "my-run",
        "--methods.kd-2.x-y",
        "3",
        "-x-y",
    ]


def test_a_run_from_one_word(tmp_path, dlkd, good, photos):
    """The folder of photos with a space, a bracket and a comma in its name, and the file that it leaves."""
    (awkward := tmp_path / "[2024] my photos, small").symlink_to(photos)
    command = ("train", "--data", awkward, "--model", "resnet8x0.5", "--epochs", 1, "--device", "cpu")
    small = ("--data.image_size", 16, "--data.workers", 0, "--engine.tensorboard", "false", "--engine.report", "false")
    good(*command, *small, "--engine.threads", 1, "--out", tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["data"]["name"], config["data"]["root"]) == ("folder", str(awkward))
    assert config["model"]["name"] == "resnet8x0.5"
    with np.load(tmp_path / "run" / "labels.npz") as labels:
        assert len(labels["train_ids"]) + len(labels["held_out_ids"]) == 32  # 40, without a fifth to test
