"""Small data sets on disk and in memory."""

import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkd.data.sources import folder, in_memory

sys.path.append(str(Path(__file__).parent))  # for what the tests here share: digit_files and layouts


@pytest.fixture
def photos(tmp_path):
    """Nine noise images of different sizes in two classes, as files: ``Samples``."""
    random = np.random.default_rng(0)
    for k in range(9):
        path = tmp_path / "photos" / ("cat" if k < 5 else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20 + k, 24, 3), np.uint8)).save(path)
    return folder(tmp_path / "photos").train


@pytest.fixture
def files(tmp_path):
    """A folder with ``images/0.png`` to ``images/25.png``, the digits that ``digit_files.rows`` names."""
    from digit_files import TEST, TRAIN, encoded

    (tmp_path / "images").mkdir()
    for k in (*TRAIN, *TEST):
        (tmp_path / "images" / f"{k}.png").write_bytes(encoded(k))
    return tmp_path


@pytest.fixture(scope="session")
def one_class_each():
    """``(n, size) → Samples`` of noise in memory, each image a class of its own: targets then tell who was mixed."""

    def make(n=11, size=6, seed=0):
        random = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (n, 3, size, size + 1), dtype=torch.uint8, generator=random)
        return in_memory(pixels, torch.arange(n), tuple(map(str, range(n))))

    return make


@pytest.fixture
def no_network(monkeypatch):
    """Downloads are refused at once."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    urllib.request.install_opener(None)  # the next one reads the proxies anew
    yield
    urllib.request.install_opener(None)
