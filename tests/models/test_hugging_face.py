"""Classifiers of transformers, from folders that it has written itself."""

import pytest
import torch

from dlkd.models import CheckpointError, build_model, default_input_format, load_initial, load_model

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny trained-like ResNet of three named classes, with its image processor."""
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.id2label = {0: "cat", 1: "dog", 2: "emu"}
    model = transformers.ResNetForImageClassification(config).eval()
    place = tmp_path_factory.mktemp("hf") / "tiny"
    model.save_pretrained(place)
    transformers.ConvNextImageProcessor(
        size={"height": 24, "width": 24},
        crop_pct=1.0,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.5, 0.6, 0.7],
    ).save_pretrained(place)
    return place, model


def test_its_logits_classes_and_input_are_its_own(folder):
    place, model = folder
    images = torch.rand(2, 3, 24, 24)
    loaded = load_model(f"hf:{place}", None, 2, pretrained=True, own_classes=True)
    with torch.no_grad():
        assert torch.equal(loaded.module(images), model(pixel_values=images).logits)
    assert loaded.class_names == ("cat", "dog", "emu")
    assert loaded.input_format.mean == (0.1, 0.2, 0.3) and loaded.input_format.std == (0.5, 0.6, 0.7)
    assert loaded.input_format == default_input_format(f"hf:{place}", 3, 3)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 2, 3)])
def test_names_that_do_not_fit_the_logits_are_left_out(tmp_path, numbers):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    config.id2label = dict(zip(numbers, ("cat", "dog", "emu"), strict=True))
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    loaded = load_model(f"hf:{tmp_path}", None, 3, pretrained=True, own_classes=True)
    assert loaded.class_names is None and loaded.module(torch.rand(1, 3, 24, 24)).shape == (1, 3)


def test_for_other_classes_it_is_refused_or_gets_a_new_head(folder):
    place, model = folder
    with pytest.raises(CheckpointError, match=r"expected weights for 5 classes, but those of hf:.* are for 3"):
        load_model(f"hf:{place}", None, 5, pretrained=True)
    module, left_out = load_initial(f"hf:{place}", 5, pretrained=True)
    assert left_out == 3 and module(torch.rand(1, 3, 24, 24)).shape == (1, 5)
    own = dict(model.named_parameters())
    kept = {name.removeprefix("model."): value for name, value in module.named_parameters()}
    assert all(torch.equal(value, own[name]) for name, value in kept.items() if not name.startswith("classifier"))


def test_built_without_weights_it_is_random_and_its_weights_load(folder):
    place, model = folder
    module = build_model(f"hf:{place}", 3)
    assert {name for name, _ in module.named_parameters()} == {f"model.{name}" for name, _ in model.named_parameters()}
    grey = build_model(f"hf:{place}", 4, channels=1)
    assert grey.eval()(torch.rand(2, 1, 24, 24)).shape == (2, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "to be a folder with config.json or a model of the Hugging Face hub"),
        ("{}", "to be a folder with config.json"),
        ("not json", "to be a folder with config.json"),
        ('{"model_type": "bert"}', "could not get the weights|transformers could not build"),
    ],
)
def test_what_is_no_classifier_is_one_line(tmp_path, content, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    name = f"hf:{tmp_path if content is not None else tmp_path / 'none'}"
    with pytest.raises(ValueError, match=message) as caught:
        load_model(name, None, 2, pretrained=True)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_read(folder, tmp_path):
    _, model = folder
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="could not get the published weights"):
        load_model(f"hf:{tmp_path}", None, 3, pretrained=True)
