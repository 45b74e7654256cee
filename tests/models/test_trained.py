"""Trained models: what comes back is what was saved, and everything doubtful is refused in one line."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dlkd.errors import UserError
from dlkd.models import CheckpointError, InputFormat, build_model, load_initial, load_model, save_student, state_hash

DATA = Path(os.environ.get("DLKD_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
FORM = InputFormat((0.25,), (0.5,), 16)


def save(folder, model, name="resnet8x0.5", **changes):
    options = {
        "num_classes": 4,
        "channels": 1,
        "input_format": FORM,
        "class_names": list("abcd"),
        "card": {"epochs": 2},
    }
    save_student(folder, model.state_dict(), name=name, **{**options, **changes})


@pytest.fixture
def model():
    return build_model("resnet8x0.5", 4, channels=1).eval()


@pytest.fixture
def run(model, tmp_path):
    save(tmp_path / "run", model)
    return tmp_path / "run"


def refusal(*args, **options):
    with pytest.raises(ValueError) as error:
        load_model(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("file", ["", "student.safetensors"])
@pytest.mark.parametrize("name", [None, "resnet8x0.5"])
def test_student_round_trip(model, run, file, name):
    loaded = load_model(name, run / file, 4, channels=1)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(loaded.module(images), model(images)) and not loaded.module.training
    assert loaded.input_format == FORM and loaded.card == {"epochs": 2}
    assert loaded.class_names == tuple("abcd")
    assert loaded.weights_hash == state_hash(model.state_dict()) == state_hash(load_file(run / "student.safetensors"))
    assert sorted(p.name for p in run.iterdir()) == ["student.json", "student.safetensors"]


def test_json_keeps_its_promise(model, run, monkeypatch):
    text = json.loads((run / "student.json").read_text())
    assert text["format"] == 1 and text["class_names"] == list("abcd")
    monkeypatch.chdir(run)
    names = {}
    exec(text["load"], names)
    assert names["student"].weights_hash == state_hash(model.state_dict())


def test_stated_input_format_wins(run):
    assert load_model(None, run, 4, channels=1, input_format=InputFormat()).input_format == InputFormat()


def test_what_the_json_says_is_checked(run):
    assert "expected the model 'resnet8x0.5'" in refusal("resnet8", run, 4, channels=1)
    assert "expected 5 classes, but the weights have 4" in refusal(None, run, 5, channels=1)
    assert load_model(None, run, 5, channels=1, own_classes=True).module.fc.out_features == 4
    assert "expected 3 channels, but the weights are for 1" in refusal(None, run, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: "{ cut",
        lambda d: json.dumps({**d, "format": 2}),
        lambda d: json.dumps({k: v for k, v in d.items() if k != "input"}),
        lambda d: json.dumps({**d, "input": {"mean": [0.5]}}),
        lambda d: json.dumps({**d, "card": 3}),
        lambda d: json.dumps({**d, "class_names": ["a", "b", "c"]}),
    ],
)
def test_damaged_json(run, damage):
    file = run / "student.json"
    file.write_text(damage(json.loads(file.read_text())))
    assert "student.json is damaged" in refusal(None, run, 4, channels=1)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"trained_on": []}, "expected trained_on to be a group of values, but found []"),
        ({"trained_on": {"images": ["a", "list"]}}, "expected trained_on.images to be a text, but found ['a', 'list']"),
        ({"trained_on": {"labels": {}}}, "expected trained_on.labels to be a text, but found {}"),
        ({"trained_on": {"data": 3}}, "expected trained_on.data to be a text, but found 3"),
        *(
            ({"image_size": side}, f"expected an image_size of 1 to 8192 pixels, but found {side!r}")
            for side in (-8, 0, 8193, 10**6, True, 24.0, "24", [24])
        ),
    ],
)
def test_what_a_card_says_of_images_is_checked(run, card, message):
    """Teachers are shown images of that side, and looked up by these digests."""
    file = run / "student.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "card": card}))
    said = refusal(None, run, 4, channels=1)
    assert "student.json is damaged" in said and message in said and "\n" not in said


@pytest.mark.parametrize("side", [None, 1, 8192])
def test_a_card_may_be_silent(run, side):
    file = run / "student.json"
    card = {"trained_on": {"images": None}, "image_size": side}
    file.write_text(json.dumps({**json.loads(file.read_text()), "card": card}))
    assert load_model(None, run, 4, channels=1).card == card


def test_a_strangers_json_is_none_of_ours(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text('{"model": "something"}')
    loaded = load_model("resnet8x0.5", tmp_path / "w.safetensors", 4, channels=1)
    assert loaded.card == {} and loaded.input_format == InputFormat()
    assert "give name" in refusal(None, tmp_path / "w.safetensors", 4)


def test_a_weights_file_never_runs_code(run):
    file = run / "student.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model": "antigravity:net"}))
    assert "which would be imported and run" in refusal(None, run, 4, channels=1)


def test_student_of_a_factory(tmp_path, monkeypatch):
    (tmp_path / "own_factory_of_test_trained.py").write_text(
        "from torch import nn\ndef net(num_classes): return nn.Linear(2, num_classes)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_factory_of_test_trained:net"
    save(tmp_path / "run", build_model(name, 4), name=name)
    monkeypatch.chdir(tmp_path / "run")
    names = {}
    exec(json.loads(Path("student.json").read_text())["load"], names)
    assert names["student"].module.out_features == 4
    # The head's other side differs: these are the right classes.
    torch.save({"weight": torch.zeros(4, 3), "bias": torch.zeros(4)}, "w.pth")
    assert "classes" not in refusal(name, Path("w.pth"), 4)


def test_tied_and_strided_weights_are_saved(tmp_path):
    weight = torch.rand(4, 6)
    state = {"a": weight, "b": weight, "c": weight.t(), "d": torch.tensor(3), "e": weight.to(torch.bfloat16)}
    save_student(tmp_path, state, name="resnet8", num_classes=4, channels=1, input_format=FORM, class_names=[], card={})
    assert state_hash(load_file(tmp_path / "student.safetensors")) == state_hash(state)


def test_unwritable(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        save(tmp_path / "file" / "run", model)
    with pytest.raises(TypeError):
        save(tmp_path / "run", model, card={"x": object()})
    assert not (tmp_path / "run").exists()


def test_state_hash_sees_everything_but_the_order():
    state = {"a": torch.arange(4.0), "b": torch.zeros(0, dtype=torch.bfloat16), "c": torch.tensor(True)}
    assert state_hash(state) == state_hash(dict(reversed(state.items())))
    changed = [
        {**state, "a": state["a"].view(2, 2)},
        {**state, "a": state["a"].view(torch.int32)},
        {**state, "a": state["a"].flip(0)},
        {**state, "b": torch.zeros(0)},
        {"x" + k: v for k, v in state.items()},
    ]
    assert len({state_hash(s) for s in [state, *changed]}) == 1 + len(changed)


def test_no_weights_and_both():
    assert "expected trained weights for resnet20" in refusal("resnet20", None, 10)
    assert "give weights RUN_OR_FILE or pretrained true" in refusal(None, None, 10)
    assert "give --teacher.weights RUN_OR_FILE or --teacher.pretrained true" in refusal(
        None, None, 10, prefix="--teacher."
    )
    assert "but got both" in refusal("test_resnet", Path("w.pth"), 10, pretrained=True)
    assert "there is none" in refusal("resnet20", Path("no.pth"), 10)


def test_folder_that_is_no_run(tmp_path):
    assert "a run with student.safetensors" in refusal("resnet20", tmp_path, 10)


def test_other_head_is_named(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    message = refusal("resnet8x0.5", tmp_path / "w.pth", 9, channels=1)
    assert "expected 9 classes, but the weights have 4" in message and "fc.weight is [4, 32]" in message
    # 16 is a width here too: another architecture must not be taken for another head.
    torch.save(build_model("resnet8x4", 16).state_dict(), tmp_path / "w.pth")
    assert "classes" not in refusal("resnet8", tmp_path / "w.pth", 16)


def test_weights_of_every_make(model, tmp_path):
    wanted = state_hash(model.state_dict())
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(model.state_dict(), tmp_path / "misnamed.pth")
    for file in ("old.pth", "misnamed.pth"):
        assert load_model("resnet8x0.5", tmp_path / file, 4, channels=1).weights_hash == wanted
    torch.save(model, tmp_path / "whole.pth")
    assert "could run code" in refusal("resnet8x0.5", tmp_path / "whole.pth", 4, channels=1)
    torch.save({"epoch": 3, "w": torch.zeros(1)}, tmp_path / "mixed.pth")
    assert "but epoch is int" in refusal("resnet8x0.5", tmp_path / "mixed.pth", 4, channels=1)
    torch.save({"a\nb": torch.zeros(1)}, tmp_path / "key.pth")
    assert "a?b" in refusal("resnet8x0.5", tmp_path / "key.pth", 4, channels=1)


def test_public_cifar_weights():
    path = DATA / "weights/cifar100_resnet20.pth"
    if not path.is_file():
        pytest.skip("the public weights are not on this machine")
    loaded = load_model("resnet20", path, 100)
    assert loaded.input_format.mean == (0.5070, 0.4865, 0.4409) and loaded.card == {}
    logits = loaded.module(loaded.input_format(torch.rand(4, 3, 32, 32)))
    assert logits.shape == (4, 100) and logits.isfinite().all()
    assert "expected 10 classes, but the weights have 100" in refusal("resnet20", path, 10)


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_published_head_of_other_classes(name):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    message = refusal(name, None, 5, pretrained=True)
    assert "expected weights for 5 classes, but those of" in message and "1000" in message and "as weights" in message


def test_published_only_by_timm_and_torchvision():
    assert "give a file as --weights" in refusal("resnet20", None, 100, pretrained=True, prefix="--")
    assert "give name" in refusal(None, None, 100, pretrained=True)


@pytest.fixture
def timm_cache(tmp_path, monkeypatch):
    """Call it to fill the hub's cache as if ``test_resnet`` of timm had been fetched; gives its weights."""
    timm = pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def fetch():
        model = timm.create_model("test_resnet")
        cache = tmp_path / f"models--{model.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs/main").write_text("0" * 40)
        (cache / "snapshots" / ("0" * 40)).mkdir(parents=True)
        save_file(model.state_dict(), cache / "snapshots" / ("0" * 40) / "model.safetensors")
        return model.state_dict()

    return fetch


@pytest.fixture
def torchvision_cache(tmp_path, monkeypatch):
    """The same, of torchvision's smallest ShuffleNet and torch.hub, with a network that nobody answers."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Nobody listens there.

    def fetch():
        state = build_model("torchvision:shufflenet_v2_x0_5", 1000).state_dict()
        file = tmp_path / "hub/checkpoints" / ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rsplit("/", 1)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)
        return state

    return fetch


def test_published_by_timm(timm_cache):
    """Without a cache, then from one."""
    assert "could not get the published weights" in refusal("timm:test_resnet", None, 1000, pretrained=True)
    state = timm_cache()
    loaded = load_model("timm:test_resnet", None, 1000, pretrained=True)
    assert loaded.weights_hash == state_hash(state) and not loaded.module.training
    assert loaded.input_format == InputFormat((0.5,) * 3, (0.5,) * 3, 160)


def test_published_by_torchvision(torchvision_cache):
    name = "torchvision:shufflenet_v2_x0_5"
    assert "connect to the network" in refusal(name, None, 1000, pretrained=True)
    state = torchvision_cache()
    assert load_model(name, None, 1000, pretrained=True).weights_hash == state_hash(state)


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5"])
def test_a_student_may_begin_with_published_weights_and_a_new_classifier(name, timm_cache, torchvision_cache):
    state = timm_cache() if name.startswith("timm") else torchvision_cache()
    module, left_out = load_initial(name, 7, pretrained=True)
    assert left_out == 1000 and module.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    _only_head_is_new(module.state_dict(), state, {"fc.weight", "fc.bias"})
    whole, nothing = load_initial(name, 1000, pretrained=True)
    assert nothing is None and state_hash(whole.state_dict()) == state_hash(state)


def test_a_student_may_begin_with_a_file_and_a_new_classifier(tmp_path):
    state = build_model("resnet8", 10).state_dict()
    save_file(state, tmp_path / "student.safetensors")
    for weights in (tmp_path / "student.safetensors", tmp_path):
        module, left_out = load_initial("resnet8", 3, weights=weights)
        assert left_out == 10
        _only_head_is_new(module.state_dict(), state, {"fc.weight", "fc.bias"})
    assert load_initial("resnet8", 10, weights=tmp_path)[1] is None
    assert load_initial("resnet8", 10)[1] is None
    with pytest.raises(CheckpointError, match="missing"):
        load_initial("resnet14", 3, weights=tmp_path)
    with pytest.raises(CheckpointError, match="expected either a weights file or pretrained, but got both"):
        load_initial("resnet8", 3, weights=tmp_path, pretrained=True)
    with pytest.raises(CheckpointError, match=r"give a file as --student\.weights"):
        load_initial("resnet8", 3, pretrained=True, prefix="--student.")


def _only_head_is_new(found, given, head):
    assert found.keys() == given.keys()
    assert {key for key in given if not torch.equal(found[key], given[key])} == head
