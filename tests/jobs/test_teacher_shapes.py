"""Teachers as users have them, through the command: several, of other classes, of one's own kind."""

import json
import shutil

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax, softmax

from dlkd import DataOptions, TeacherOptions
from dlkd.data import load_data, plain_batches
from dlkd.data.view_key import epoch_order
from dlkd.models import load_model
from dlkd.train.teachers import load_teacher

KD = ("--method", "kd")
EXACT = ("--storage.dtype", "fp32")
EXTRA = ("umbrella", "7 o'clock", "ship")


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


def lesson(store, ids=None):
    """The logits of the first view of every training image, in the order of the epoch, or of their numbers ``ids``."""
    (file,) = store.glob("view-00000-*.safetensors")
    logits = load_file(file)["logits"]
    return logits if ids is None else logits[np.argsort(epoch_order(0, ids, 0))]


def copied(run, to, change_weights, change_names=list):
    """A run whose student is another one of the same architecture."""
    shutil.copytree(run, to)
    state = {k: v.clone() for k, v in load_file(run / "student.safetensors").items()}
    save_file(change_weights(state), to / "student.safetensors")
    about = read(run, "student.json")
    about["class_names"] = change_names(about["class_names"])
    about["num_classes"] = len(about["class_names"])
    (to / "student.json").write_text(json.dumps(about))
    return to


def with_head(order):
    """The classes at these numbers; −1 stands for one that nobody was trained on."""

    def change(state):
        generator = torch.Generator().manual_seed(1)
        for name in ("fc.weight", "fc.bias"):
            new = torch.randn(len(order), *state[name].shape[1:], generator=generator)
            known = torch.tensor(order) >= 0
            new[known] = state[name][torch.tensor(order)[known]]
            state[name] = new
        return state

    return change


@pytest.fixture(scope="module")
def second(teacher, tmp_path_factory):
    """A teacher that is not quite the first."""

    def shaken(state):
        generator = torch.Generator().manual_seed(0)
        noise = {k: torch.randn(v.shape, generator=generator) for k, v in state.items() if v.ndim > 1}
        return {k: v + 0.1 * v.std() * noise[k] if k in noise else v for k, v in state.items()}

    return copied(teacher, tmp_path_factory.mktemp("second") / "run", shaken)


ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]


@pytest.fixture(scope="module")
def permuted(teacher, tmp_path_factory):
    """The teacher with its classes in another order."""
    return copied(
        teacher, tmp_path_factory.mktemp("permuted") / "run", with_head(ORDER), lambda names: [names[k] for k in ORDER]
    )


WIDER = [-1, *ORDER[:6], -1, *ORDER[6:], -1]


@pytest.fixture(scope="module")
def wider(teacher, tmp_path_factory):
    """The teacher with three more classes among the others."""
    strange = iter(EXTRA)
    return copied(
        teacher,
        tmp_path_factory.mktemp("wider") / "run",
        with_head(WIDER),
        lambda names: [next(strange) if k < 0 else names[k] for k in WIDER],
    )


@pytest.fixture(scope="module")
def alone(teacher, distill, good, tmp_path_factory):
    """A student of the plain teacher, and the folder of its lessons."""
    folder = tmp_path_factory.mktemp("alone")
    good(*distill(folder / "run", "--store", folder / "store", *EXACT))
    return folder


def test_lessons_of_two_teachers_are_the_mean(tmp_path, good, dlkd, distill, teacher, second):
    both = ("--teacher.weights", f"[{teacher}, {second}]")
    plain = ("--views.augment", "none")
    for average in ("logits", "probabilities"):
        own = ("--teacher.average", average, "--store", tmp_path / f"store-{average}", *EXACT, *plain)
        good(*distill(tmp_path / average, *both, *own))
    train = load_data(DataOptions(per_class=30)).train
    images = train.pixels.array.double() / 255
    z = np.stack(
        [load_model(None, run, 10, channels=1).module.double()(images).detach().numpy() for run in (teacher, second)]
    )
    assert np.abs(z[0] - z[1]).max() > 0.1
    assert np.allclose(lesson(tmp_path / "store-logits", train.ids), z.mean(0), atol=1e-4)
    expected = np.log(softmax(z, axis=2).mean(0))
    assert np.allclose(lesson(tmp_path / "store-probabilities", train.ids), expected, atol=1e-4)
    # One probe of the whole, and a card that names both.
    card = read(tmp_path / "logits", "run.json")["teacher"]
    hashes = [load_model(None, run, 10, channels=1).weights_hash for run in (teacher, second)]
    assert [m["teacher"] for m in card["members"]] == hashes and card["teacher"] not in hashes
    assert (card["average"], card["probe_names"], card["seen"]) == ("logits", ["global-0.3"], "kept")
    assert read(tmp_path / "probabilities", "run.json")["teacher"]["teacher"] != card["teacher"]
    assert "2 teachers: the lesson is the mean of their logits" in read(tmp_path / "logits")["remarks"]
    other = ("--teacher.average", "probabilities", "--store", tmp_path / "store-logits", *plain)
    refused(dlkd(*distill(tmp_path / "new", *both, *other)), "differs in average, teacher")


def test_a_teacher_averaged_with_itself_makes_the_same_student(tmp_path, good, distill, same, teacher):
    good(*distill(tmp_path / "one", *KD))
    good(*distill(tmp_path / "two", *KD, "--teacher.weights", f"[{teacher}, {teacher}]"))
    assert same(tmp_path / "one", tmp_path / "two")


def test_what_several_teachers_have_seen_is_told_with_care(tmp_path, teacher, second, good, distill):
    save_file(load_file(second / "student.safetensors"), tmp_path / "bare.safetensors")
    mixed = ("--teacher.weights", f"[{teacher}, {tmp_path / 'bare.safetensors'}]")
    good(*distill(tmp_path / "run", *KD, *mixed, "--teacher.name", "[null, resnet8x0.5]"))
    card = read(tmp_path / "run", "run.json")["teacher"]
    assert (card["seen"], card["labels"]) == ("unknown", "unknown")
    # Of clean and given labels together, those that give more away.
    noisy = ("--data.noise", 0.3, "--teacher.weights", f"[{teacher}, {second}]")
    good(*distill(tmp_path / "noisy", *KD, *noisy, "--force"))
    assert read(tmp_path / "noisy", "run.json")["teacher"]["labels"] == "clean"


def test_lists_that_do_not_fit(tmp_path, dlkd, distill, teacher, second):
    both = ("--teacher.weights", f"[{teacher}, {second}]")
    for more, words in (
        ((*both, "--teacher.name", "[resnet8x0.5]"), ("--teacher.name", "as long as --teacher.weights (2)", "got 1")),
        (("--teacher.name", "[resnet8x0.5, resnet8x0.5]"), ("--teacher.weights to be a list of 2",)),
        (("--teacher.weights", "[]"), ("at least one",)),
        (("--teacher.weights", f"[{teacher}, {tmp_path / 'none'}]"), ("there is nothing",)),
        ((*both, "--teacher.average", "votes"), ("--teacher.average", "logits, probabilities")),
    ):
        refused(dlkd(*distill(tmp_path / "new", *more)), *words)
    assert not (tmp_path / "new").exists()
    inside = ("--teacher.weights", f"[{teacher}, {second}]", "--overwrite")
    refused(dlkd(*distill(second, *inside)), "--teacher.weights outside the folder of the run")


FACTORY = f"""
from dlkd.models import build_model
def net(num_classes, channels):
    model = build_model("resnet8x0.5", num_classes, channels=channels)
    model.register_forward_hook(lambda module, inputs, logits: logits[:, {ORDER}])
    return model
"""


def test_a_teacher_in_another_order_makes_the_same_student(
    tmp_path, good, distill, same, teacher, alone, permuted, monkeypatch
):
    """To the last bit where the order is changed behind the head; a head of other rows rounds in another way."""
    (tmp_path / "factory_of_test_teacher_shapes.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(teacher / "student.safetensors", tmp_path / "w.safetensors")
    (tmp_path / "names.txt").write_text("\n".join(map(str, ORDER)) + "\n")
    behind = ("--teacher.name", "factory_of_test_teacher_shapes:net", "--teacher.weights", tmp_path / "w.safetensors")
    own = (*behind, "--teacher.classes", tmp_path / "names.txt", "--store", tmp_path / "store", *EXACT)
    good(*distill(tmp_path / "bits", *own))
    assert torch.equal(lesson(tmp_path / "store"), lesson(alone / "store"))
    assert same(tmp_path / "bits", alone / "run")
    good(*distill(tmp_path / "run", "--teacher.weights", permuted, "--store", tmp_path / "rows", *EXACT))
    np.testing.assert_allclose(lesson(tmp_path / "rows"), lesson(alone / "store"), rtol=1e-5, atol=1e-5)
    remark = "the teacher has the 10 classes in another order: they were matched by name"
    assert remark in read(tmp_path / "run")["remarks"]


def test_a_teacher_of_more_classes_teaches_those_of_the_data(tmp_path, good, distill, wider, alone):
    good(*distill(tmp_path / "run", *KD, "--teacher.weights", wider, "--store", tmp_path / "store", *EXACT))
    np.testing.assert_allclose(lesson(tmp_path / "store"), lesson(alone / "store"), rtol=1e-4, atol=1e-5)
    assert any("knows 13 classes" in r and "over these 10 alone" in r for r in read(tmp_path / "run")["remarks"])
    assert read(tmp_path / "run")["teacher"]["test"]["accuracy"] > 80
    assert read(tmp_path / "run", "run.json")["teacher"]["members"][0]["classes"] == [4, 2, 8, 1, 3, 5, 9, 11, 10, 6]


def test_names_of_a_strangers_outputs_come_from_a_file(tmp_path, good, dlkd, distill, permuted, wider):
    names = read(permuted, "student.json")["class_names"]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "more.json").write_text(json.dumps(read(wider, "student.json")["class_names"]))
    other, wide = tmp_path / "other.safetensors", tmp_path / "wide.safetensors"
    for run, file in ((permuted, other), (wider, wide)):
        shutil.copy(run / "student.safetensors", file)
    bare = ("--teacher.name", "resnet8x0.5", "--teacher.weights")
    good(*distill(tmp_path / "run", *bare, other, "--teacher.classes", tmp_path / "names.txt"))
    assert read(tmp_path / "run")["teacher"]["test"]["accuracy"] > 80
    # A run is resumed with the classes that it began with.
    (tmp_path / "names.txt").write_text("\n".join(reversed(names)))
    (tmp_path / "run" / "results.json").unlink()
    refused(dlkd("distill", "--out", tmp_path / "run", "--resume"), "the teacher is not the one")
    more = (*bare, f"[{other}, {wide}]", "--teacher.classes")
    (tmp_path / "names.txt").write_text("\n".join(names))
    good(*distill(tmp_path / "two", *KD, *more, f"[{tmp_path / 'names.txt'}, {tmp_path / 'more.json'}]"))
    assert read(tmp_path / "two")["teacher"]["test"]["accuracy"] > 80
    refused(dlkd(*distill(tmp_path / "new", *bare, wide)), "expected 10 classes", "have 13", "--teacher.classes")
    wrong = (*bare, wide, "--teacher.classes", tmp_path / "names.txt")
    refused(dlkd(*distill(tmp_path / "new", *wrong)), "have 13", "names.txt names 10")


def test_classes_that_a_teacher_does_not_know(tmp_path, dlkd, distill, teacher):
    (tmp_path / "words.txt").write_text("\n".join(["zero", "one", *"23456789"]))
    (tmp_path / "twice.txt").write_text("\n".join(["1", *"1234567890"][:10]))
    for file, words in (
        ("words.txt", ("10 classes of the data", "no '0'", "1 more", "nearest", "--teacher.classes")),
        ("twice.txt", ("no '0'",)),
        ("none.txt", ("could not read class names",)),
    ):
        refused(dlkd(*distill(tmp_path / "new", "--teacher.classes", tmp_path / file)), *words)
    assert not (tmp_path / "new").exists()


def test_born_again(tmp_path, good, distill, teacher, weights):
    """Each generation is of the architecture of the one before, from fresh weights, and becomes its successor's."""
    before = (teacher / "student.safetensors").read_bytes()
    options = ("--epochs", 12, "--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16)
    good(*distill(tmp_path / "first", *KD, *options))
    good(*distill(tmp_path / "second", *KD, *options, "--teacher.weights", tmp_path / "first", "--seed", 1))
    assert (teacher / "student.safetensors").read_bytes() == before
    first, again = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert first.keys() == weights(teacher).keys() and not torch.equal(first["fc.weight"], again["fc.weight"])
    card = read(tmp_path / "second", "run.json")["teacher"]
    assert card["teacher"] == load_model(None, tmp_path / "first", 10, channels=1).weights_hash
    assert read(tmp_path / "second")["teacher"]["test"] == pytest.approx(read(tmp_path / "first")["test"], abs=1e-4)
    assert read(tmp_path / "second")["test"]["accuracy"] > 60


def test_each_teacher_is_shown_its_own_side(tmp_path, photos, good, train):
    sides = (24, 32)
    for side in sides:
        files = ("--data.name", "folder", "--data.root", photos, "--data.image_size", side, "--data.workers", 0)
        good(*train(tmp_path / str(side), *files, "--optim.batch_size", 8))
    data = load_data(DataOptions("folder", photos))
    runs = [tmp_path / str(side) for side in sides]
    found = load_teacher(TeacherOptions(weights=runs), data, 3)
    images = torch.rand(2, 3, 32, 32)
    small = torch.nn.functional.interpolate(images, size=(24, 24), mode="bilinear", antialias=True)
    models = [load_model(None, run, 2) for run in runs]
    expected = sum(m.module(m.input_format(x)) for m, x in zip(models, (small, images), strict=True)) / 2
    torch.testing.assert_close(found.module(found.input_format(images)), expected)
    assert np.isfinite(log_softmax(expected.detach().numpy(), axis=1)).all()


def test_teacher_and_student_see_one_view_each_at_its_own_resolution(tmp_path, photos, good, train, dlkd):
    files = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 32, "--data.workers", 0)
    good(*train(tmp_path / "teacher", *files, "--optim.batch_size", 8))
    out = tmp_path / "student"
    good(
        *("distill", "--out", out, *files, "--teacher.weights", tmp_path / "teacher", "--teacher.resolution", 24),
        *(
            "--student.name",
            "resnet8x0.5",
            "--student.resolution",
            16,
            "--epochs",
            1,
            "--optim.batch_size",
            8,
            "--force",
        ),
        *(
            "--store",
            tmp_path / "store",
            *EXACT,
            "--views.augment",
            "none",
            "--data.held_out",
            0,
            "--data.test_share",
            0.25,
        ),
    )
    assert read(out, "student.json")["input"]["resolution"] == 16
    data = load_data(DataOptions("folder", photos, held_out=0, test_share=0.25))
    model = load_model(None, tmp_path / "teacher", 2)
    images = torch.cat([x for x, _ in plain_batches(data.train, size=32)])
    small = torch.nn.functional.interpolate(images, size=(24, 24), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = model.module(model.input_format(small))
    torch.testing.assert_close(lesson(tmp_path / "store", data.train.ids), expected, rtol=0, atol=1e-4)
    refused(dlkd("distill", *files, "--teacher.weights", tmp_path / "teacher", "--teacher.resolution", 0), "resolution")
