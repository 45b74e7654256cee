"""What do the losses cost? Forward and backward against the textbook version and the neighbours' libraries.

    python benchmarks/losses.py --out results/losses.json
    python benchmarks/losses.py --out results/losses.json --table      # the table of what is there, for docs/losses.md

- ratio: time of ours ÷ time of the other, taken inside a round in which all take turns; the median over the rounds
- floor: both logits read once and the gradient written once, 3·B·C·4 bytes, ÷ the bandwidth of a copy of 256 MiB in the
  same run; `floor` of a row is the time of ours ÷ that
- peak: most memory held at a time on top of the logits, in units of one [B, C] tensor

One thread, fp32, on the CPU by default. Shapes already in the file from the same machine and versions are kept, so that
one can be renewed alone (`--shapes`). The libraries are those of the extra `benchmark`; what is missing stays empty.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import neighbours
import textbook
import torch
from textbook import Loss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dlkd import losses
from dlkd.jobs.card import machine

SHAPES = ("64x100", "256x1000", "1024x21843")
GOALS = {"kd": 1.0, "kd, a temperature for each sample": 1.0, "dkd": 1.0, "nkd": 1.0, "dist": 1.0}
"""Largest ratio to the textbook version that we want; 1.1 for all others."""
OTHERS = ("textbook", "torchdistill", "timm")
MOST_CLASSES_OF_MLKD = 5000
"""The textbook version forms matrices [C, C]: 2 GB each for 21,843 classes, twenty of them."""


class Batch(NamedTuple):
    student: Tensor
    teacher: Tensor
    target: Tensor
    temperature: Tensor
    low: float
    high: float


def make_batch(batch: int, classes: int, dtype: torch.dtype = torch.float32) -> Batch:
    """Random logits; the label is one of the teacher's five favourites."""
    g = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(batch, classes, generator=g, dtype=dtype) for _ in range(2))
    y = t.topk(5, dim=1).indices.gather(1, torch.randint(0, 5, (batch, 1), generator=g)).squeeze(1)
    energy = -4 * torch.logsumexp(t / 4, dim=1)
    low, high = (float(energy.quantile(q)) for q in (0.3, 0.7))
    return Batch(s.requires_grad_(), t, y, 1 + 5 * torch.rand(batch, generator=g, dtype=dtype), low, high)


def pairs(b: Batch) -> dict[str, tuple[Loss, Loss]]:
    """Ours and the textbook's."""
    ours: dict[str, Loss] = {
        "cross_entropy": lambda s, t, y: losses.cross_entropy(s, y).mean(),
        "kd": lambda s, t, y: losses.kd_loss(s, t, temperature=4.0),
        "kd, a temperature for each sample": lambda s, t, y: losses.kd_loss(s, t, temperature=b.temperature),
        "energy_kd": lambda s, t, y: losses.energy_kd_loss(s, t, low=b.low, high=b.high, t_easy=2.0, t_hard=6.0),
    }
    theirs: dict[str, Loss] = {
        "kd, a temperature for each sample": lambda s, t, y: textbook.own_temperature(s, t, b.temperature),
        "energy_kd": textbook.energy_kd(b.low, b.high),
    }
    named = ["dkd", "nkd", "dist", "r2kd_value", "rld", "lskd", "wsld", "ttm", "wttm", "normkd", "dtkd", "ats", "ea_kd"]
    if b.student.shape[1] <= MOST_CLASSES_OF_MLKD:
        named.append("mlkd")
    ours |= {name: getattr(losses, f"{name}_loss") for name in (*named, "mse")}
    return {name: (ours[name], theirs.get(name) or getattr(textbook, name)) for name in ours}


def step(loss: Loss, b: Batch) -> Callable[[], None]:
    def once() -> None:
        b.student.grad = None
        loss(b.student, b.teacher, b.target).backward()

    return once


def seconds(work: Callable[[], object], times: int = 1) -> float:
    # Processor time on one thread, so that what else the machine does counts as little as it can.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    for _ in range(times):
        work()
    return (clock() - started) / times


def agree(name: str, contenders: dict[str, Loss], b: Batch) -> None:
    """What is timed computes the same: value and gradient."""
    found = {}
    for who, loss in contenders.items():
        value = loss(b.student, b.teacher, b.target)
        found[who] = (value.detach(), *torch.autograd.grad(value, b.student))
    for who, result in found.items():
        # torchdistill divides the variance by C − 1, and DIST's ε is visible at a gradient of 0.
        close = 2e-2 if who == "torchdistill" and name == "lskd" else 1e-4
        for mine, other in zip(found["ours"], result, strict=True):
            if not torch.allclose(mine, other, rtol=close, atol=close * float(mine.abs().max())):
                raise AssertionError(f"{name}: {who} computes something else")


class Memory(TorchDispatchMode):
    """Follows the storages that are made and let go of while it is on, in the backward pass as well."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {a.untyped_storage()._cdata for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)}
        result = operation(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                if storage._cdata not in given | self.known:
                    self.known.add(storage._cdata)
                    self.held += storage.nbytes()
                    self.most = max(self.most, self.held)
                    weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        return result

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.held -= size


def peak(work: Callable[[], None]) -> int:
    """Most bytes held at a time by what ``work`` makes."""
    with Memory() as memory:
        work()
    return memory.most


def bandwidth() -> float:
    """Bytes read and written a second by a copy of 256 MiB."""
    source, goal = torch.ones(2**26), torch.empty(2**26)
    goal.copy_(source)
    return 2 * source.nbytes / statistics.median(seconds(lambda: goal.copy_(source)) for _ in range(7))


def measure(name: str, contenders: dict[str, Loss], b: Batch, budget: float) -> dict[str, Any]:
    """One row: ratios of ours to each other, by rounds in which all take turns; small shapes are done long before
    their budget is spent."""
    works = {who: step(loss, b) for who, loss in contenders.items()}
    once = {who: min(seconds(work), seconds(work)) for who, work in works.items()}
    times = max(1, round(0.005 / once["ours"]))
    rounds = max(3, min(25, int(budget / (times * sum(once.values())))))
    rows = [{who: seconds(work, times) for who, work in works.items()} for _ in range(rounds)]
    size = b.student.nbytes
    return {
        "ratio": {who: statistics.median(r["ours"] / r[who] for r in rows) for who in works if who != "ours"},
        "floor": statistics.median(r["ours"] for r in rows) / (3 * size / bandwidth()),
        "peak": {who: round(peak(work) / size, 2) for who, work in works.items()},
        "milliseconds": 1000 * statistics.median(r["ours"] for r in rows),
        "rounds": rounds,
    }


def table(found: dict[str, Any]) -> str:
    lines = []
    for shape, rows in found["shapes"].items():
        lines += [
            f"**{shape.replace('x', ' × ')}**",
            "",
            "| loss | ÷ textbook | ÷ torchdistill | ÷ timm | ms | ÷ floor | peak | textbook's peak | goal |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            goal = GOALS.get(name, 1.1)
            cells = [
                name,
                *(f"{row['ratio'][who]:.2f}" if who in row["ratio"] else "" for who in OTHERS),
                f"{row['milliseconds']:.2f}",
                f"{row['floor']:.1f}",
                *(f"{row['peak'][who]:.1f}" for who in ("ours", "textbook")),
                "" if row["ratio"]["textbook"] < goal + 0.005 else f"{goal} missed",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def about(threads: int) -> dict[str, Any]:
    """Machine and versions: figures of others are not mixed with these."""
    torch.set_num_threads(threads)
    card = machine()
    versions: dict[str, str] = card["versions"]  # type: ignore[assignment]
    for library in ("torchdistill", "timm"):
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return {"settings": {"threads": threads, "dtype": "float32"}, **card, "cpu": cpu()}


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="B x C, separated by commas (default: %(default)s)")
    parser.add_argument("--only", help='names of losses, separated by "; " (default: all)')
    parser.add_argument("--seconds", type=float, default=330.0, help="about how long to measure (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the table of the file, measure nothing")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.out.read_text())))
        return
    found = about(options.threads)
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    same = all(kept.get(key) == found[key] for key in found)
    found["bandwidth_gb_per_s"] = bandwidth() / 1e9
    found["shapes"] = kept["shapes"] if same else {}
    others = {"torchdistill": neighbours.torchdistill(), "timm": neighbours.timm()}
    small = make_batch(64, 100)
    for shape in options.shapes.split(","):
        b = make_batch(*(int(n) for n in shape.split("x")))
        made, checked = pairs(b), pairs(small)
        names = options.only.split("; ") if options.only else list(made)
        rows = found["shapes"].setdefault(shape, {})
        for name in names:
            rest = {who: known[name] for who, known in others.items() if name in known}
            agree(name, dict(zip(("ours", "textbook"), checked[name], strict=True)) | rest, small)
            contenders = dict(zip(("ours", "textbook"), made[name], strict=True)) | rest
            rows[name] = measure(name, contenders, b, 0.75 * options.seconds / len(names))
            print(
                shape, name, {w: f"{r:.2f}" for w, r in rows[name]["ratio"].items()}, rows[name]["rounds"], flush=True
            )
            options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
