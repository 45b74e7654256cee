"""Recipes from strangers."""

from __future__ import annotations

import json

from bad_input_cases.place import Case, Place

LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 10))
COMMAND = "touch canary"


def _recipe(what: str, says: str, text: str | bytes, *more: object) -> Case:
    def make(place: Place) -> list[str]:
        return place.train("--config", place.write("recipe.yaml", text), *more)

    return Case("recipes", what, make, says)


def _bare(what: str, says: str, command: str, text: str) -> Case:
    """With no option beside the recipe and a new folder."""

    def make(place: Place) -> list[str]:
        return [command, "--config", str(place.write("recipe.yaml", text)), "--out", str(place.folder / "new")]

    return Case("recipes", what, make, says)


def _unreadable(place: Place) -> list[str]:
    return place.train("--config", "/proc/self/mem")


CASES = (
    _recipe("broken YAML", "recipe.yaml", "epochs: [1"),
    _recipe("nothing in it", "found nothing", ""),
    _recipe("a list instead of options", "found list", "- epochs\n- 3\n"),
    _recipe("bytes that are no text", "could not read the recipe", b"\xff\xfe\x00bad"),
    _recipe("control characters", "could not read the recipe", "epochs: 3 \x00\x01\n"),
    _recipe("an unknown option", "did you mean --epochs?", "epoch: 3\n"),
    _recipe("an unknown option in a group", "did you mean --optim.lr?", "optim:\n  lrr: 0.1\n"),
    _recipe("a value of another kind", "a whole number", "epochs: many\n"),
    _recipe("a list for a number", "a number", "optim:\n  lr: [1, 2]\n"),
    _recipe("null for a group", "group of options", "seed: 1\ndata: null\n"),
    _recipe("null for a number", "a whole number or auto, but got nothing", "seed: 1\nepochs:\n"),
    _recipe("null for a name", "expected --data.name to be text, but got nothing", "data:\n  name:\n"),
    _recipe("null for a number in a group", "expected --optim.lr to be", "seed: 1\noptim:\n  lr:\n"),
    _recipe("nothing behind the only option", "nothing behind epochs", "epochs:\n"),
    _recipe("the same option twice", "'epochs' stands twice", "epochs: 1\nepochs: 2\n"),
    _recipe("aliases that unfold to 10⁹ values", "more than 10,000 values", LAUGHS),
    _recipe("merged groups that unfold to 10⁹ values", "more than 10,000 values", MERGES),
    _recipe("an alias of itself", "stands for itself", "optim: &a [*a]\n"),
    _recipe("100,000 lists within each other", "groups deep", "[" * 100_000),
    _recipe("a number of 10,001 digits", "longer than", f"epochs: 1{'0' * 10_000}\n"),
    _recipe("a number of 5,000 digits", "recipe.yaml", f"epochs: 1{'0' * 5000}\n"),
    _recipe("20 MB of text", "larger than 1 MB", "# " + "x" * 20_000_000),
    _recipe("a tag that runs a command", "could not read", f"seed: !!python/object/apply:os.system ['{COMMAND}']\n"),
    _recipe("a tag that imports a module", "could not read", "seed: !!python/module:antigravity\n"),
    _recipe("a date that is none", "could not read", "seed: 2001-99-99\n"),
    _recipe("a tag that does not fit", "could not read", "seed: !!timestamp x\n"),
    _recipe("a whole number that is none", "could not read", 'seed: !!int ""\n'),
    _recipe(
        "a class to be made", "not accepted", "optim: {class_path: os.system, init_args: {command: 'touch canary'}}\n"
    ),
    _recipe("a terminal code in a name", "--data.name", 'data: {name: "\\e[31mred\\a"}\n'),
    _recipe("a zero byte in a path", "zero byte", 'data: {name: folder, root: "a\\0b"}\n'),
    _recipe("another recipe inside of a recipe", "config", "config: cifar100/lite\n"),
    _recipe("a device without end in place of a group", "group of options", "optim: /dev/zero\n"),
    _recipe(
        "another bomb, as the text of a value", "more than 10,000 values", f"optim: {{ema: {json.dumps(LAUGHS)}}}\n"
    ),
    _recipe("an infinite learning rate", "--optim.lr", "optim: {lr: .inf}\n"),
    _bare(
        "a command in place of a data set",
        "would be imported and run",
        "train",
        f"data: {{name: 'os:system', root: '{COMMAND}'}}\ndevice: cpu\n",
    ),
    _bare(
        "deletion in place of a data set",
        "would be imported and run",
        "train",
        "data: {name: 'shutil:rmtree', root: .}\ndevice: cpu\n",
    ),
    _bare("code in place of a model", "would be imported and run", "train", "model: {name: 'antigravity:make'}\n"),
    _bare("code as a part of a method", "would be imported and run", "distill", "method: kd+antigravity:MINE\n"),
    _bare(
        "code as one of two teachers",
        "would be imported and run",
        "distill",
        "teacher: {name: [null, 'antigravity:make'], weights: [a, b]}\n",
    ),
    _bare(
        "a pattern of 10¹⁸ archives",
        "at most 100,000 archives",
        "train",
        "data: {name: webdataset, root: 'x{0..999999999}{0..999999999}.tar'}\n",
    ),
    Case("recipes", "a recipe that is a folder", lambda p: p.train("--config", p.copy("photos")), "to be a file"),
    Case("recipes", "a recipe that cannot be read", _unreadable, "could not read the recipe"),
    Case("recipes", "a recipe that is not there", lambda p: p.train("--config", "cifar100/lit"), "did you mean"),
)
