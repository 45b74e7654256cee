"""Weights, their descriptions and checkpoints of strangers: nothing is run, and what is refused is one line."""

import copy
import hashlib
import io
import json
import os

import pytest
import torch
from hypothesis import given
from mutations import changed, fuzz, in_time, mutated
from safetensors.torch import save
from torch import nn

from dlkd.errors import UserError
from dlkd.models import CheckpointError, InputFormat, build_model, load_model, load_weights, save_student
from dlkd.train.checkpoint import load_checkpoint

LINEAR = nn.Linear(3, 2)
STATE = {"step": 3, "weight": torch.arange(6.0), "betas": (0.9, 0.999)}
PIECES = [
    b"\x80\x02cposix\nsystem\n",
    b"cos\nsystem\n(S'true'\ntR.",
    b"\xff" * 8,
    b"9" * 30,
    b"[" * 500,
    b"i\x00\xff\xff",
]


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def saved(content, **how):
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def trap(folder, **how):
    return saved({"weight": Trap(folder / "canary"), "bias": torch.zeros(2)}, **how)


WHOLE = {
    "w.safetensors": save(LINEAR.state_dict()),
    "w.pth": saved({"state_dict": LINEAR.state_dict()}),
    "w.pt": saved(LINEAR.state_dict(), _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", WHOLE)
def test_weights(tmp_path, name):
    @given(content=mutated(WHOLE[name], PIECES))
    @fuzz(60)
    def run(content):
        (tmp_path / name).write_bytes(content)
        model = copy.deepcopy(LINEAR)
        try:
            with in_time():
                load_weights(model, tmp_path / name)
        except CheckpointError as error:
            assert "\n" not in str(error)
            assert torch.equal(model.weight, LINEAR.weight) and torch.equal(model.bias, LINEAR.bias)

    run()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_run_code(tmp_path, zipped):
    whole = trap(tmp_path, _use_new_zipfile_serialization=zipped)

    @given(content=mutated(whole, PIECES))
    @fuzz(60)
    def run(content):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(CheckpointError), in_time():
            load_weights(LINEAR, tmp_path / "w.pth")
        assert not (tmp_path / "canary").exists()

    run()
    torch.load(io.BytesIO(whole), weights_only=False)
    assert (tmp_path / "canary").exists()  # it is one


@pytest.mark.filterwarnings("ignore")  # torch's, about quantised tensors
def test_what_a_state_dict_may_hold_besides_numbers(tmp_path):
    weight = LINEAR.weight.detach()
    for bad in (
        weight.to_sparse(),
        weight.to("meta"),
        weight.to(torch.complex64),
        torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    ):
        torch.save({"weight": bad, "bias": torch.zeros(2)}, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"expected .* to hold dense tensors of real numbers, but weight is"):
            load_weights(LINEAR, tmp_path / "w.pth")
    torch.save({"weight": weight.half(), "bias": torch.zeros(2).double()}, tmp_path / "w.pth")
    load_weights(copy.deepcopy(LINEAR), tmp_path / "w.pth")  # other real numbers are none of them


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    save_student(
        folder,
        build_model("resnet8x0.5", 3, channels=1).state_dict(),
        name="resnet8x0.5",
        num_classes=3,
        channels=1,
        input_format=InputFormat((0.5,), (0.25,), 16),
        class_names=list("abc"),
        card={"epochs": 2},
    )
    return folder, json.loads((folder / "student.json").read_text())


def described(folder, own_classes):
    try:
        with in_time():
            loaded = load_model(None, folder, 3, channels=1, own_classes=own_classes)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert sum(p.numel() for p in loaded.module.parameters()) < 10**6
    assert loaded.input_format.resolution is None or loaded.input_format.resolution <= 8192


@pytest.mark.parametrize("own_classes", [True, False])
def test_descriptions(student, own_classes):
    folder, values = student

    @given(content=mutated(json.dumps(values).encode(), [b"[" * 3000, b"9" * 400, b"Infinity", b"NaN", b"\xff"]))
    @fuzz(25)
    def spoilt(content):
        (folder / "student.json").write_bytes(content)
        described(folder, own_classes)

    @given(content=changed(values))
    @fuzz(40)
    def forged(content):
        (folder / "student.json").write_text(json.dumps(content))
        described(folder, own_classes)

    spoilt()
    forged()


def signed(payload):
    return f"dlkd-checkpoint 1 {hashlib.sha256(payload).hexdigest()} {len(payload)}\n".encode() + payload


def checkpoint(folder):
    try:
        with in_time():
            return load_checkpoint(folder).state
    except UserError as error:
        assert "\n" not in str(error)
        return None


@given(content=mutated(signed(saved(STATE)), [b"\n", b"dlkd-checkpoint 1 ", b"9" * 200]))
@fuzz(60)
def test_a_checkpoint_is_the_one_that_was_written_or_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    found = checkpoint(tmp_path)
    assert (found is None) == (content != signed(saved(STATE)))


def test_forged_checkpoints(tmp_path):
    @given(payload=mutated(trap(tmp_path), PIECES))
    @fuzz(50)
    def run(payload):
        (tmp_path / "checkpoint.pt").write_bytes(signed(payload))
        assert isinstance(checkpoint(tmp_path), dict | None)
        assert not (tmp_path / "canary").exists()

    run()
