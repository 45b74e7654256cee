"""Recipes, and the settings and cards of runs: one line, whatever stands in them, and no code."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import get_loader
from mutations import JSON, changed, fuzz, in_time, mutated

from dlkd.cli.named_code import check_named_code
from dlkd.errors import UserError
from dlkd.pages.plain_yaml import read_plain
from dlkd.pages.recipes import recipe_names, resolve_config
from dlkd.train.options import DistillOptions, ModelOptions
from dlkd.train.teacher_options import TeacherOptions

PIECES = [
    b"!!python/object/apply:os.mkdir ['canary']",
    b"!!python/name:os.system",
    b"!!timestamp x",
    b'!!int ""',
    b"!!binary ?",
    b"&a [*a]",
    b"<<: *a",
    b"[" * 2000,
    b"{" * 40,
    b"? " * 40,
    b"9" * 5000,
    b"1:" * 3000,
    b"2001-99-99",
    b".nan",
    b"-.inf",
    b"\xff\xfe",
    b"\x00",
    b"\xef\xbb\xbf",
    b"%YAML 9.9\n---\n",
    b"---\n",
    b"data: {name: 'os:mkdir', root: canary}\n",
    b"method: os:mkdir\n",
    b"epochs: 3\n",
    b"optim: recipe.yaml\n",
]
RECIPE = resolve_config("cifar100/lite").read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(done):
    assert done.status == 2 and done.err.startswith("dlkd: error: ") and done.err.count("\n") == 1, done.err
    assert done.err[:-1].isprintable()


@given(content=mutated(RECIPE, PIECES))
@fuzz(25)
def test_recipes(here, dlkd, content):
    """No epochs: what can be read is refused for that."""
    (here / "recipe.yaml").write_bytes(content)
    with in_time():
        one_line(dlkd("distill", "--config", here / "recipe.yaml", "--out", here / "new", "--epochs", 0))
    assert [path.name for path in here.iterdir()] == ["recipe.yaml"]


@given(values=changed(yaml.safe_load(RECIPE)) | JSON)
@fuzz(20)
def test_values_of_other_kinds(here, dlkd, values):
    (here / "recipe.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    with in_time():
        one_line(dlkd("distill", "--config", here / "recipe.yaml", "--out", here / "new", "--epochs", 0))


@given(content=mutated(RECIPE, PIECES) | st.binary(max_size=50))
@fuzz(150)
def test_what_is_read_is_what_yaml_says(tmp_path, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with in_time():
        try:
            found = read_plain(tmp_path / "recipe.yaml")
        except Exception:
            return
    assert repr(found) == repr(yaml.safe_load(content.decode()))


def test_shipped_recipes_and_plain_aliases_are_read(tmp_path):
    for name in recipe_names():
        assert read_plain(resolve_config(name)) == yaml.safe_load(resolve_config(name).read_text())
    text = "a: &a {lr: 0.1, betas: [1, 2]}\nb: *a\nc: {<<: *a, lr: 0.2}\nd: [&x 3, *x, *x]\n"
    (tmp_path / "recipe.yaml").write_text(text)
    both = {"lr": 0.1, "betas": [1, 2]}
    assert read_plain(tmp_path / "recipe.yaml") == {"a": both, "b": both, "c": {**both, "lr": 0.2}, "d": [3, 3, 3]}


def bomb(levels, width=9, value="1"):
    aliases = (f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]\n" for k in range(1, levels))
    return f"a0: &a0 [{', '.join([value] * width)}]\n" + "".join(aliases)


def test_bombs_are_told_by_their_size_once_unfolded(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(bomb(3))  # Σ over 3 levels of about 9ᵏ values
    assert len(read_plain(file)["a2"][0][0]) == 9
    for levels in (5, 9, 200):
        file.write_text(bomb(levels))
        started = time.perf_counter()
        with pytest.raises(ValueError, match="more than 10,000 values"):
            read_plain(file)
        assert time.perf_counter() - started < 20


def test_no_file_is_read_in_the_name_of_another(here, dlkd):
    """The parser takes a text where a group should be for the path of one more file."""
    (here / "more.yaml").write_text("lr: 0.1\n")
    for text in ("more.yaml", "/dev/zero", bomb(9)):
        (here / "recipe.yaml").write_text(yaml.safe_dump({"optim": text}))
        with in_time():
            done = dlkd("train", "--config", here / "recipe.yaml", "--out", here / "new", "--epochs", 0)
        one_line(done)
        assert "expected optim in the recipe" in done.err and len(done.err) < 500
    (here / "more.yaml").write_text(bomb(9))  # what a user types may be a file, of the same size
    before = get_loader("yaml")
    for option in ("--optim", "--optim.ema", "--data.per_class"):
        with in_time():
            done = dlkd("train", option, "more.yaml" if option == "--optim" else bomb(9), "--out", here / "new")
        one_line(done)
        assert "more than 10,000 values" in done.err
    assert get_loader("yaml") is before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (DistillOptions(method="kd+mine:TOP3"), "--method mine:TOP3"),
        (DistillOptions(student=ModelOptions("mine:net")), "--student.name mine:net"),
        (DistillOptions(teacher=TeacherOptions([None, "mine:net"])), "--teacher.name mine:net"),
    ],
)
def test_code_has_to_be_named_by_the_user(options, named):
    option, code = named.split()
    with pytest.raises(UserError, match=f"expected {named} on the command line"):
        check_named_code(options, ["distill", "--config", f"{code}.yaml", f"x{code}", option, "kd"])
    for typed in ([option, code], [f"{option}={code}"], [option, f"[null,{code}]"], [option, f"kd+{code}"]):
        check_named_code(options, ["distill", *typed])


def test_names_that_are_looked_up_are_no_code():
    for name in ("resnet20", "timm:resnet18", "torchvision:resnet18", "cifar:vgg8"):
        check_named_code(DistillOptions(student=ModelOptions(name), teacher=TeacherOptions(name)), [])


def test_a_recipe_may_name_code_that_the_user_names_too(here, dlkd, own_module):
    own_module("own_data_of_test_fuzz_recipes", "def make(root):\n    raise RuntimeError(f'asked for {root}')\n")
    name = "own_data_of_test_fuzz_recipes:make"
    (here / "recipe.yaml").write_text(f"data: {{name: '{name}', root: there}}\n")
    arguments = ("train", "--config", here / "recipe.yaml", "--out", here / "new")
    assert f"expected --data.name {name} on the command line" in dlkd(*arguments).err
    assert "asked for there" in dlkd(*arguments, "--data.name", name).err


@pytest.fixture(scope="module")
def finished(tmp_path_factory, teacher):
    """The texts of a finished run, which ``--resume`` reads one after the other."""
    folder = tmp_path_factory.mktemp("finished")
    texts = {name: (teacher / name).read_bytes() for name in ("run.json", "config.yaml", "results.json")}
    return folder, texts


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "results.json"])
def test_texts_of_a_run(finished, dlkd, name):
    folder, texts = finished
    pieces = PIECES if name.endswith("yaml") else [b"9" * 5000, b"NaN", b"\xff", b"\x00", b"[[[["]

    @given(content=mutated(texts[name], pieces))
    @fuzz(25)
    def run(content):
        for other, text in {**texts, name: content}.items():
            (folder / other).write_bytes(text)
        with in_time():
            done = dlkd("train", "--out", folder, "--resume", "--epochs", json.loads(texts["results.json"])["epochs"])
        if done.status != 0:
            one_line(done)

    run()
