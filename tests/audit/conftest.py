"""Images that are audited, a network that others trained, and a contact sheet in a browser."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkd.data import DataOptions, load_data

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def whole():
    """All images that are audited, with their labels as given."""
    from audits import NOISE

    return load_data(DataOptions(per_class=30, noise=NOISE, held_out=0.0)).train


@pytest.fixture(scope="session")
def network(tmp_path_factory, good):
    """A run on other images: the last 40 of each class; its folder is given away."""
    from audits import MACHINE, TRAINING

    root = tmp_path_factory.mktemp("network")
    digits = load_data(DataOptions(held_out=0.0)).train
    last = np.sort(np.concatenate([np.flatnonzero(digits.labels.numpy() == c)[-40:] for c in range(10)]))
    pixels = digits.pixels.array[torch.from_numpy(last)][:, 0].numpy()
    arrays = {f"{part}_images": pixels for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": digits.labels[last].numpy()[:, None] for part in ("train", "val", "test")}
    np.savez(root / "others.npz", **arrays)
    good(
        *("train", "--out", root / "run", "--data.name", "npz", "--data.root", root / "others.npz", *MACHINE),
        *("--engine.tensorboard", "false", "--engine.report", "false", *TRAINING, "--views.flip", "false"),
    )
    return root / "run"


@pytest.fixture
def page_of(tmp_path, visit):
    """Write a sheet and open it; keywords of the browser's profile go with it."""

    def opened(content, **options):
        file = tmp_path / "sheet.html"
        file.write_text(content.render(), encoding="utf-8")
        return visit(file, **options)

    return opened
