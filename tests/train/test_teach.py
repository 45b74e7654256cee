"""What is known of teacher and probes, so that what was kept of other ones is not taken for theirs."""

from dataclasses import asdict

import pytest
from torch import nn

from dlkd.difficulty import ProbeSpec
from dlkd.models import build_model
from dlkd.train.teach import _about_probe


@pytest.mark.parametrize("criterion", ["l1", "random", "channels"])
def test_probes_of_attention_are_others_than_they_were(criterion):
    """Its projections were once left alone: a store of that time must not be taken for one of now."""
    spec = ProbeSpec(criterion=criterion)
    with_attention = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 10))
    new = {} if criterion == "channels" else {"attention": True}
    assert _about_probe(spec, with_attention) == {**asdict(spec), **new}
    assert _about_probe(spec, build_model("resnet8", 10)) == asdict(spec)
