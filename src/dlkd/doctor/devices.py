"""What there is to compute with."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import torch

from dlkd.doctor.line import Line
from dlkd.errors import first_line

GB = 1e9


def look() -> list[Line]:
    """The lines about the CPU, CUDA devices and MPS."""
    return [_cpu(), *_cuda(), _mps()]


def _cpu() -> Line:
    cores, usable, threads = os.cpu_count() or 1, _usable(), torch.get_num_threads()
    what = f"CPU {_cpu_name()}: {usable} of {cores} cores, {threads} threads"
    if threads > usable:
        return Line("device", what, "note", f"more threads than cores are slow: export OMP_NUM_THREADS={usable}")
    return Line("device", what)


def _usable() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        known = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        known = []
    names = (line.partition(":")[2].strip() for line in known if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cuda() -> list[Line]:
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") is None:
            return [Line("device", "CUDA: no device")]
        built = "sees no device" if torch.version.cuda else "is built without CUDA"
        advice = "install the build of torch for this driver: https://pytorch.org"
        return [Line("device", f"CUDA: there is an NVIDIA driver, but this torch {built}", "note", advice)]
    return [_cuda_device(k) for k in range(torch.cuda.device_count())]


def _cuda_device(number: int) -> Line:
    what = f"cuda:{number} {torch.cuda.get_device_name(number)}"
    try:
        free, total = torch.cuda.mem_get_info(number)
        torch.ones(8, device=f"cuda:{number}").sum().item()
    except RuntimeError as error:
        advice = "see with nvidia-smi who uses it, or give --device cpu"
        return Line("device", f"{what} does not work: {first_line(error)}", "problem", advice)
    return Line("device", f"{what}: {free / GB:.1f} of {total / GB:.1f} GB free")


def _mps() -> Line:
    return Line("device", f"MPS: {'yes' if torch.backends.mps.is_available() else 'no device'}")
