"""Weights from strangers: every bad file is one clear line, nothing is executed."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from dlkd.models import CheckpointError, cifar_resnet, load_weights


@pytest.fixture
def model():
    return cifar_resnet("resnet8", 5)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_round_trip_torch(model, tmp_path, wrap):
    torch.save(wrap(model.state_dict()), tmp_path / "w.pth")
    other = cifar_resnet("resnet8", 5)
    load_weights(other, tmp_path / "w.pth")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_round_trip_safetensors(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    load_weights(cifar_resnet("resnet8", 5), tmp_path / "w.safetensors")


def test_misfit_names_the_keys_and_changes_nothing(model, tmp_path):
    torch.save(cifar_resnet("resnet14", 7).state_dict(), tmp_path / "w.pth")
    before = model.fc.weight.clone()
    with pytest.raises(CheckpointError, match=r"unexpected: layer1.1.*shapes: fc.bias is \[7\], expected \[5\]"):
        load_weights(model, tmp_path / "w.pth")
    assert torch.equal(before, model.fc.weight)


def test_pickle_is_never_executed(model, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tmp_path / "w.pth")
    assert not (tmp_path / "owned").exists() and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut short"])
def test_damaged(model, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tmp_path / name)
    assert "\n" not in str(error.value)


def test_missing_and_not_tensors(model, tmp_path):
    with pytest.raises(CheckpointError, match="there is none"):
        load_weights(model, tmp_path / "no.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="found list"):
        load_weights(model, tmp_path / "list.pth")
