"""The CIFAR zoo: sizes from the literature, and names."""

import re
from pathlib import Path

import pytest
import torch

from dlkd.models import cifar_resnet
from dlkd.models.cifar import CIFAR_RESNETS
from dlkd.models.zoo import OWN_NAMES

# Parameters with 100 classes, in thousands: RepDistiller's models, whose shortcuts are 1×1 convolutions too.
KNOWN = {"resnet20": 278_324, "resnet56": 861_620, "resnet8x4": 1_233_540, "resnet32x4": 7_433_860}


@pytest.mark.parametrize(("name", "parameters"), KNOWN.items())
def test_parameter_count(name, parameters):
    assert sum(p.numel() for p in cifar_resnet(name, 100).parameters()) == parameters


@pytest.mark.parametrize("name", CIFAR_RESNETS)
def test_logits_shape(name):
    assert cifar_resnet(name, 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'resnet20'"):
        cifar_resnet("resnet-20", 10)


def test_the_page_names_every_network_and_says_which_are_ours():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    published = re.findall(r"^\| (\S+) \| [\d,]+ \|", page, re.MULTILINE)
    ours = re.findall(r"`([^`]+)`", re.findall(r"One more is ours, for digits: (.*)\.$", page, re.MULTILINE)[0])
    assert sorted([*published, *ours]) == sorted(OWN_NAMES) and len(ours) == 1
