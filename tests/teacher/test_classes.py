"""Teachers of more classes, or in another order: chosen by name, and refused where a name does not tell."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlkd import FrozenTeacher, prune_teacher
from dlkd.errors import UserError
from dlkd.models import cifar_resnet
from dlkd.teacher import SelectClasses, class_index, read_class_names

NAMES = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=12, unique=True)


@given(NAMES, st.randoms())
@settings(deadline=None, max_examples=60)
def test_the_index_finds_every_class_by_name(own, random):
    wanted = random.sample(own, random.randint(1, len(own)))
    index = class_index(own, wanted)
    assert [own[k] for k in index] == wanted
    assert class_index(own, own) == list(range(len(own)))


def test_missing_classes_name_the_nearest():
    with pytest.raises(ValueError, match="the 3 classes of the data") as caught:
        class_index(["cats", "dog", "car"], ["dog", "cat", "plane"])
    message = str(caught.value)
    assert "among its 3 there is no 'cat' and 1 more of them (nearest: 'cats', 'car')" in message
    assert "\n" not in message


def test_a_name_that_stands_for_several_is_refused():
    with pytest.raises(ValueError, match="the teacher has several called 'crane'"):
        class_index(["crane", "crane", "dog"], ["dog", "crane"])
    with pytest.raises(ValueError, match="the data has several called 'dog'"):
        class_index(["dog", "crane"], ["dog", "dog"])
    # Where nobody asks for it, it does not matter; nor where nothing has to be found.
    assert class_index(["crane", "crane", "dog"], ["dog"]) == [2]
    assert class_index(["crane", "crane"], ["crane", "crane"]) == [0, 1]


def network():
    torch.manual_seed(1)
    return cifar_resnet("resnet8x0.5", 9).eval(), torch.rand(4, 3, 8, 8)


def test_the_softmax_is_over_the_chosen_classes():
    model, x = network()
    index = [7, 0, 3]
    chosen = SelectClasses(model, index)
    p = model(x).softmax(dim=1)[:, index]
    torch.testing.assert_close(chosen(x).softmax(dim=1), p / p.sum(dim=1, keepdim=True))
    assert torch.equal(chosen(x), model(x)[:, index])


def test_weights_are_those_of_the_model_and_a_probe_selects_too():
    model, x = network()
    chosen = SelectClasses(model, [2, 1])
    assert [k.removeprefix("model.") for k in chosen.state_dict()] == list(model.state_dict())
    probe = prune_teacher(chosen, 0.4)
    assert torch.equal(probe(x), prune_teacher(model, 0.4)(x)[:, [2, 1]])
    out = FrozenTeacher(chosen, [probe])(x)
    assert out.logits.shape == out.probe_logits[0].shape == (4, 2)


def test_models_of_too_few_classes_and_numbers_that_are_none():
    model, x = network()
    with pytest.raises(ValueError, match=r"\[B, 10 or more\], but got \[4, 9\]"):
        SelectClasses(model, [9])(x)
    with pytest.raises(ValueError, match="or more"):
        SelectClasses(nn.Flatten(0), [0])(x)
    for index in ([], [-1]):
        with pytest.raises(ValueError, match="at least 0"):
            SelectClasses(model, index)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("\ufeffcat\r\n dog \r\n\r\n", ("cat", "dog")),
        (json.dumps(["cat", "Hund, groß", "7"]), ("cat", "Hund, groß", "7")),
        ("0\n1\n2", ("0", "1", "2")),
        ("7", ("7",)),
        ("[kitchen]\n[garden]", ("[kitchen]", "[garden]")),
    ],
)
def test_files_of_names(tmp_path, text, names):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "names") == names


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"cat\n\ndog", b'{"0": "cat"}', b'["cat", 3]', b"[]", b"\xff\xfe\x00"]
)
def test_files_that_hold_no_names_are_one_line(tmp_path, content):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(UserError, match="names") as caught:
        read_class_names(tmp_path / "names")
    assert "\n" not in str(caught.value)


def test_no_file_of_names(tmp_path):
    with pytest.raises(UserError, match="could not read class names"):
        read_class_names(tmp_path / "none.txt")
