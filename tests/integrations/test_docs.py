"""Every block of docs/integrations.md is executed, those of a section one after the other."""

import os
import re
import warnings
from pathlib import Path

import pytest
import torch

from dlkd.models import cifar_resnet

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
SECTIONS = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE))
NEEDS = {"timm": "timm.task", "Lightning": "lightning", "Hugging Face": "transformers"}


def blocks(section):
    return re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("section", [name for name in SECTIONS if blocks(name)])
def test_blocks(section, tmp_path, monkeypatch, capsys):
    if section in NEEDS:
        pytest.importorskip(NEEDS[section], reason=f"{NEEDS[section]} is not installed")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    images, labels = torch.rand(64, 3, 16, 16), torch.randint(0, 10, (64,))
    names = {
        "__name__": "docs",
        "teacher": cifar_resnet("resnet8", 10),
        "student": cifar_resnet("resnet8x0.5", 10),
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16),
        "images": images[:16],
        "labels": labels[:16],
        "dataset": [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)],
    }
    before = {k: v.clone() for k, v in names["teacher"].state_dict().items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for block in blocks(section):
            exec(compile(block, f"{PAGE.name}: {section}", "exec"), names)
    assert all(torch.equal(before[k], v) for k, v in names["teacher"].state_dict().items())
    assert "loss" not in names or names["loss"].requires_grad


def test_all_faces_are_there():
    assert (
        set(NEEDS) < set(SECTIONS) and sum(len(blocks(name)) for name in SECTIONS) == PAGE.read_text().count("```") / 2
    )


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE.read_text())
    assert targets and all(os.path.exists(PAGE.parent / target) for target in targets), targets
