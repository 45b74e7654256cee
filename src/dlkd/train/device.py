"""Where a run computes: device, precision, and the processes that were started together."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from dlkd.errors import UserError, first_line
from dlkd.train.auto import precision
from dlkd.train.launch import Launch
from dlkd.train.options import RunOptions

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(options: RunOptions) -> Fabric:
    """Device, precision and the processes that were started together; refuses a device that is not there."""
    launch = Launch.found()
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    kind, _, number = options.device.partition(":")
    there = {
        "auto": True,
        "cpu": not number,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in there or (number and not number.isdigit()):
        raise UserError(f"expected --device to be auto, cpu, cuda, cuda:N or mps, but got {options.device!r}")
    if not there[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UserError(f"there is no device {options.device} on this machine; use --device auto")
    devices: Any = [int(number)] if number else 1
    if options.engine.precision == "fp16" and (kind == "cpu" or (kind == "auto" and not torch.cuda.is_available())):
        raise UserError("expected --engine.precision fp32 or bf16 on a CPU, but got fp16")
    on = ("cuda" if torch.cuda.is_available() else "cpu") if kind == "auto" else kind
    plugin: Any = PRECISION[precision(options.engine, on)]
    if launch.world == 1:
        return Fabric(accelerator=kind, devices=devices, precision=plugin)
    if number:
        raise UserError(
            f"expected --device {kind} with {launch.world} processes, each of which takes its own, but got "
            f"{options.device}"
        )
    here = launch.world // launch.nodes
    # Of convolutions from one channel, whose strides mean nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=here,
            num_nodes=launch.nodes,
            strategy="ddp",
            precision=plugin,
            # Told, not found: of tasks in an interactive shell of SLURM's, Lightning would start processes of its own.
            plugins=[SLURMEnvironment() if launch.by == "srun" else TorchElasticEnvironment()],
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"could not reach the other of {launch.world} processes: {first_line(error)}; look at what they said, and "
            "whether the address and port of the first can be reached"
        ) from error
    return fabric


def pick_device(device: str) -> torch.device:
    """``auto`` is the accelerator, if there is one."""
    return make_fabric(RunOptions(device=device)).device
