"""What the tests of stores look at: files of a store, figures and logits of a run, lines of refusal."""

import json
import re

import torch
from refusals import refused as refused

from dlkd.data import DataOptions, load_data, plain_batches
from dlkd.models import load_model

CHECKSUM = re.compile(r"\.[0-9a-f]{16}\.safetensors$")
EXACT = ("--storage.dtype", "fp32")


def logits(run):
    """Of the test images, by the model of a run."""
    found = load_model(None, run, 10, channels=1)
    images = torch.cat([x for x, _ in plain_batches(load_data(DataOptions("digits", per_class=30)).test)])
    with torch.no_grad():
        return found.module.eval()(found.input_format(images))


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


def names(store):
    """What is in a store, without checksums."""
    return sorted(CHECKSUM.sub("", p.name) for p in store.iterdir() if p.name != ".locks")


def files(store):
    """Of every file its inode, time and bytes."""
    found = [p for p in sorted(store.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def shard(store, name):
    (file,) = store.glob(f"{name}*.safetensors")
    return file


def flip(file, at=-1):
    whole = bytearray(file.read_bytes())
    whole[at] ^= 1
    file.write_bytes(whole)
