"""How fast is training beside its floor, the sum of its parts, and other libraries? One process, works taking turns.

    python benchmarks/throughput.py --threads 1 --out results/speed.json
    python benchmarks/throughput.py --threads 1 --out results/speed.json --pairs --scaling    # cost of more, and memory
    python benchmarks/throughput.py --out results/speed.json --table                          # for docs/speed.md

- plain: the loop without a teacher, the floor; kd, dlkd: the loop with a teacher; store: DLKD from a store that holds
  all, the teacher let go
- part: student step, teacher and probe forward, each alone, folded and channels-last
- torchdistill, timm: the same KD step as their training scripts take it, see peers.py

A name alone is with the options as they come; "NCHW" is without channels-last and, of ours, without folding; "best" is
with both, where they are not the default; "compiled" is with torch.compile, "fused" with the optimizer's step in one
kernel, "bf16" in half precision. Images and weights are random, which changes nothing in the work. Steps are on batches
ready in memory, but for those "through the loader". A ratio is taken inside a round, in which all works take turns, in
reversed order every other round; the figure is the median over the rounds. Pairs that are in the file stay as they are,
unless --again.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peers import PEERS, Models, Step, in_turn
from random_runs import (
    PAIRS,
    Pair,
    Runs,
    Work,
    choose,
    clock_name,
    in_memory,
    ready_batches,
    take_turns,
    through_the_loader,
)
from scaling import measure_memory, measure_scaling
from torch import nn

from dlkd.data import Batch
from dlkd.files import write_json
from dlkd.losses import cross_entropy
from dlkd.models import build_model, load_weights
from dlkd.train.optim import make_optimizer
from dlkd.train.session import Session
from losses import about

OTHERS: dict[str, dict[str, Any]] = {
    "compiled": {"engine": {"compile": True}},
    "fused": {"engine": {"fused": True}},
    "bf16 teacher": {"teacher": {"precision": "bf16"}},
    "bf16": {"engine": {"precision": "bf16"}, "teacher": {"precision": "bf16"}},
}
"""Settings that are not the default, by the name of the variant of our KD."""
BEST: dict[str, Any] = {"engine": {"channels_last": True}, "teacher": {"fold": True}}
NCHW: dict[str, Any] = {"engine": {"channels_last": False}, "teacher": {"fold": False}}
AGREE = 1e-4
"""Largest difference of the losses of one batch, relative."""
AHEAD = {"resnet56 → resnet20": (1.1, 1.7), "resnet32x4 → resnet8x4": (1.4, 3.0)}
"""How many times as long as our KD, and as our DLKD from a store, the KD of others should take."""


class Goal(NamedTuple):
    """What a ratio should be."""

    at_most: float | None = None
    at_least: float | None = None

    def met(self, ratio: float) -> bool:
        return ratio <= (self.at_most or float("inf")) and ratio >= (self.at_least or 0.0)


def make_sessions(runs: Runs) -> dict[str, Session]:
    """Every way to train that is measured; what is the default anyway is not measured twice."""
    found = {"plain": runs.session("ce"), "kd": runs.session("kd"), "dlkd": runs.session("dlkd")}
    for name, changes in (("best", BEST), ("NCHW", NCHW)):
        dlkd = runs.session("dlkd", **changes)
        if _settings(dlkd) != _settings(found["dlkd"]):
            found[f"plain, {name}"], found[f"kd, {name}"] = runs.session("ce", **changes), runs.session("kd", **changes)
            found[f"dlkd, {name}"] = dlkd
    for name, changes in OTHERS.items():
        found[f"kd, {name}"] = runs.session("kd", **changes)
    found["store"] = runs.stored("dlkd", teacher={"fold": True})
    if "plain, best" in found:
        found["store, best"] = runs.stored("dlkd", **BEST)
    return found


def _settings(session: Session) -> tuple[bool, object]:
    assert session.teaching is not None
    return session.channels_last, session.teaching.identity["fold"]


def best(names: Iterable[str], name: str) -> str:
    """The name of the fastest way to do something."""
    return f"{name}, best" if f"{name}, best" in names else name


def parts(sessions: dict[str, Session], ready: list[Batch]) -> dict[str, Work]:
    """Student step, teacher and probe forward, each by itself and channels-last."""
    session = sessions[best(sessions, "dlkd")]
    assert session.teaching is not None
    teacher, probe = session.teaching.teacher.models
    inputs = [session.input_format(b.images).contiguous(memory_format=torch.channels_last) for b in ready]
    student = copy.deepcopy(session.module).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(student, session.options.optim)

    def step(steps: int) -> None:
        for k in range(steps):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(student(inputs[k % len(inputs)]), ready[k % len(ready)].target).mean().backward()
            optimizer.step()

    def forward(model: nn.Module) -> Work:
        @torch.inference_mode()
        def work(steps: int) -> None:
            for k in range(steps):
                model(inputs[k % len(inputs)])

        return work

    return {"part: student": step, "part: teacher": forward(teacher), "part: probe": forward(probe)}


def make_peers(runs: Runs, session: Session) -> dict[str, tuple[Step, torch.memory_format]]:
    """The KD step of others, from the initial student of ``session``."""
    found = {}
    for kind, layout in (("", torch.contiguous_format), (", channels-last", torch.channels_last)):
        for name, make in PEERS.items():
            teacher = build_model(runs.pair.teacher, runs.pair.classes)
            load_weights(teacher, runs.folder / "teacher.safetensors")
            device = session.fabric.device
            models = [m.to(device, memory_format=layout) for m in (copy.deepcopy(session.module), teacher.eval())]
            if (step := make(Models(models[0].train(), models[1], session.input_format, device))) is not None:
                found[name + kind] = (step, layout)
    return found


def make_works(runs: Runs) -> tuple[dict[str, Work], dict[str, float], torch.device]:
    """Everything that is measured, and the loss of everybody's KD on the first batch."""
    sessions = make_sessions(runs)
    ready = ready_batches(sessions["plain"])
    works = parts(sessions, ready)
    peers = make_peers(runs, sessions["kd"])
    works = {name: in_memory(session, ready) for name, session in sessions.items()} | works
    for name in ("plain", "store"):
        fastest = best(sessions, name)
        works[f"{fastest}, through the loader"] = through_the_loader(sessions[fastest])
    losses = {}
    for name in [n for n in sessions if n.partition(",")[0] == "kd" and "bf16" not in n]:
        works[name](1)
        losses[name] = float(sessions[name].loss_sum) / len(ready[0].labels)
    for name, (step, layout) in peers.items():
        batches = [(sessions["kd"].input_format(b.images).contiguous(memory_format=layout), b.labels) for b in ready]
        losses[name] = step(*batches[0])
        works[name] = in_turn(step, batches)
    print("loss of the first batch:", {name: round(loss, 6) for name, loss in losses.items()}, flush=True)
    for name, loss in losses.items():
        if abs(loss - losses["kd"]) > AGREE * abs(losses["kd"]):
            raise AssertionError(f"{name} computes {loss}, dlkd {losses['kd']}: not the same step")
    return works, losses, sessions["plain"].fabric.device


def ratios_wanted(pair: Pair, names: Iterable[str], device: torch.device) -> dict[str, tuple[str, list[str], Goal]]:
    """Name of a ratio → whose time, divided by the sum of whose, and the goal."""
    names = list(names)
    wanted: dict[str, tuple[str, list[str], Goal]] = {}
    floor, online, stored = (best(names, n) for n in ("plain", "kd", "store"))
    no_wait = Goal(at_least=0.98) if device.type == "cuda" else Goal()
    for mine, to in dict.fromkeys((("store", "plain"), (stored, floor))):
        wanted[f"{mine} ÷ {to}"] = (mine, [to], Goal(at_most=1.05))
    student, teacher, probe = (f"part: {n}" for n in ("student", "teacher", "probe"))
    wanted[f"{online} ÷ parts"] = (online, [student, teacher], Goal(at_most=1.05))
    dlkd = best(names, "dlkd")
    wanted[f"{dlkd} ÷ parts"] = (dlkd, [student, teacher, probe], Goal(at_most=1.05))
    for name in (floor, stored):
        wanted[f"{name} ÷ through the loader"] = (name, [f"{name}, through the loader"], no_wait)
    for name in ("plain", "kd", "dlkd"):
        if f"{name}, NCHW" in names:
            wanted[f"{name}, NCHW ÷ {name}"] = (f"{name}, NCHW", [name], Goal())
    for name in OTHERS:
        wanted[f"kd, {name} ÷ kd"] = (f"kd, {name}", ["kd"], Goal())
    kd, store = AHEAD.get(pair.name, (None, None))
    for peer in [n for n in names if n.partition(",")[0] in PEERS]:
        came = "," not in peer
        for mine in dict.fromkeys(("kd", online)):
            wanted[f"{peer} ÷ {mine}"] = (peer, [mine], Goal(at_least=kd if came else None))
        for mine in dict.fromkeys(("store", stored)):
            wanted[f"{peer} ÷ {mine}"] = (peer, [mine], Goal(at_least=store if came else None))
    return wanted


def measure_pair(pair: Pair, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of one pair."""
    runs = Runs(folder, pair, options.device, options.threads)
    works, losses, device = make_works(runs)
    for work in works.values():
        work(options.warm_up)
    rows = take_turns({name: (work, options.steps) for name, work in works.items()}, options.rounds, device)
    ratios = {}
    for name, (mine, others, goal) in ratios_wanted(pair, works, device).items():
        values = [row[mine] / sum(row[o] for o in others) for row in rows]
        ratios[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        if goal != Goal():
            ratios[name] |= {"goal": goal._asdict(), "met": goal.met(ratios[name]["median"])}
    milliseconds = {name: 1000 * statistics.median(row[name] for row in rows) for name in works}
    return {
        "settings": {**vars(pair), "rounds": options.rounds, "steps": options.steps, "clock": clock_name(device)},
        "device": str(device),
        "loss_of_first_batch": losses,
        "milliseconds": milliseconds,
        "images_per_second": {name: 1000 * pair.batch_size / value for name, value in milliseconds.items()},
        "ratios": ratios,
        "store_bytes_per_image": runs.store_bytes / pair.images,
    }


def table(found: dict[str, Any]) -> str:
    """What is in the file, in Markdown."""
    lines = []
    for name, pair in found["pairs"].items():
        clock, threads = pair["settings"]["clock"], pair["threads"]
        where = pair["cpu"] if pair["device"] == "cpu" else pair["accelerator"]
        lines += [
            f"**{name}**, batches of {pair['settings']['batch_size']}, {where}, threads: {threads}, {clock} time",
            "",
        ]
        lines += ["| | images/s | ms a step |", "|---|---|---|"]
        speeds, times = pair["images_per_second"], pair["milliseconds"]
        lines += [f"| {work} | {value:.1f} | {times[work]:.1f} |" for work, value in speeds.items()]
        lines += ["", "| ratio of times | median | min – max | goal |", "|---|---|---|---|"]
        for ratio, row in pair["ratios"].items():
            goal = "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.get("goal", {}).items() if v is not None)
            missed = "" if row.get("met", True) else ", missed"
            lines.append(f"| {ratio} | {row['median']:.3f} | {row['min']:.3f} – {row['max']:.3f} | {goal}{missed} |")
        lines.append("")
    for name, part in found.get("scaling", {}).get("tables", {}).items():
        lines += [f"**{name}**", "", f"| {' | '.join(part['columns'])} |", "|---" * len(part["columns"]) + "|"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in part["rows"]] + [""]
    return "\n".join(lines)


def _cell(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:.0f}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=list(PAIRS), help="none for --scaling alone")
    parser.add_argument("--again", action="store_true", help="measure what is in the file as well")
    parser.add_argument("--scaling", action="store_true", help="cost of more data and classes, and memory")
    parser.add_argument("--scaling_images", type=int, default=1024, help="of the smallest set (default: %(default)s)")
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000, 5461, 10922, 21843])
    parser.add_argument("--budget_images", type=int, default=6144, help="of a large store (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, help="by default 64, and 16 at 224 pixels")
    parser.add_argument("--images", type=int, help="by default 2048, and 128 at 224 pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=2, help="steps of each before the first round")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", action="store_true", help="print the tables of the file, measure nothing")
    return parser


def main() -> None:
    options = arguments().parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {"pairs": {}}
    if options.table:
        print(table(found))
        return
    card = {k: v for k, v in about(options.threads or torch.get_num_threads()).items() if k != "settings"}
    for name in options.pairs:
        pair = choose(PAIRS[name], options)
        if pair.name in found["pairs"] and not options.again:
            print(f"{pair.name}: is in {options.out} already")
            continue
        print(pair.name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found["pairs"][pair.name] = {**card, **measure_pair(pair, options, Path(folder))}
        write_json(options.out, found)
    if options.scaling and ("scaling" not in found or options.again):
        tables = measure_scaling(options) | measure_memory(options)
        # Lists, because the file sorts the keys of a row.
        kept = {k: {"columns": list(rows[0]), "rows": [list(r.values()) for r in rows]} for k, rows in tables.items()}
        found["scaling"] = {**card, "tables": kept}
        write_json(options.out, found)
    print(table(json.loads(options.out.read_text())))


if __name__ == "__main__":
    main()
