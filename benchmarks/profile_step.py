"""Where does the time of a training step go? The parts of the loop, and the operators that cost most.

    python benchmarks/profile_step.py --threads 1 --label before --nchw --out results
    python benchmarks/profile_step.py --threads 1 --label after --out results

- parts: share of the time of steps through the loader, each part without those inside it; backward is that of student
  and loss together, "rest" what the loop itself adds
- operators: the ten dearest by their own time, by torch.profiler, whose own cost is in these shares alone

Plain training, DLKD and DLKD from a store, with the options as they come, on random images of CIFAR's size; with --nchw
without channels-last and folding, as it was before these were the default. The file is profile-LABEL.json.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from random_runs import PAIRS, Runs, choose, in_memory, ready_batches, timed
from torch.profiler import ProfilerActivity, profile

from dlkd.files import write_json
from dlkd.train.session import Session
from dlkd.train.step import train_step
from losses import about

DEAREST = 10


class Parts:
    """Seconds of the parts of a step, each without the parts inside it.

    Args:
        device: waited for at the ends of each part.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, Counter[str]()
        self._inside: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = self._now()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = self._now() - started
            self.seconds[name] += spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def within(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call`` as the part ``name``."""

        @functools.wraps(call)
        def measured(*arguments: Any, **keywords: Any) -> Any:
            with self.part(name):
                return call(*arguments, **keywords)

        return measured


def watch(session: Session, parts: Parts) -> None:
    """Let the parts of a session be told apart; the session is good for nothing else afterwards."""
    session.module.forward = parts.within("student forward", session.module.forward)  # type: ignore[method-assign]
    session.method.parts = parts.within("loss", session.method.parts)  # type: ignore[method-assign]
    session.fabric.backward = parts.within("backward", session.fabric.backward)  # type: ignore[method-assign]
    session.optimizer.step = parts.within("optimizer", session.optimizer.step)  # type: ignore[method-assign]
    session.optimizer.zero_grad = parts.within("optimizer", session.optimizer.zero_grad)  # type: ignore[method-assign]
    session.diagnostics.add = parts.within("diagnostics", session.diagnostics.add)  # type: ignore[method-assign]
    if session.lessons is None or session.teaching is None:
        return
    models = session.teaching.teacher.models
    for name, model in zip(("teacher", "probe"), models, strict=False):
        model.forward = parts.within(name, model.forward)
    session.lessons = parts.within("lesson" if models else "store", session.lessons)  # type: ignore[assignment]


def shares(session: Session, steps: int) -> dict[str, float]:
    """Milliseconds of a step by part."""
    parts = Parts(session.fabric.device)
    watch(session, parts)
    steps = min(steps, session.steps.per_epoch)
    batches = session.steps.loader(0, steps, session.workers)
    with parts.part("rest"):
        for k in range(steps):
            with parts.part("data"):
                batch = next(batches).to(session.fabric.device)
            train_step(session, batch, k)
    return {name: 1000 * value / steps for name, value in parts.seconds.items()}


def dearest(session: Session, steps: int) -> list[dict[str, Any]]:
    """The operators with the largest time of their own."""
    device, work = session.fabric.device, in_memory(session, ready_batches(session))
    cuda = device.type == "cuda"
    work(2)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        timed(lambda: work(steps), device)
    rows = found.key_averages()

    def own(row: Any) -> float:
        return float(row.self_device_time_total if cuda else row.self_cpu_time_total)

    total = sum(map(own, rows)) or 1.0
    top = sorted(rows, key=own, reverse=True)[:DEAREST]
    return [{"operator": r.key, "share": own(r) / total, "calls_a_step": r.count / steps} for r in top]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", required=True, help="before or after a change")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    parser.add_argument("--pair", choices=PAIRS, default="resnet56-resnet20")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--nchw", action="store_true", help="without channels-last and folding")
    options = parser.parse_args()
    pair = choose(PAIRS[options.pair], options)
    card = {k: v for k, v in about(options.threads or torch.get_num_threads()).items() if k != "settings"}
    found: dict[str, Any] = {
        **card,
        "label": options.label,
        "settings": {**vars(pair), "steps": options.steps, "nchw": options.nchw},
    }
    changes: dict[str, Any] = {"engine": {"channels_last": False}, "teacher": {"fold": False}} if options.nchw else {}
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), pair, options.device, options.threads)
        makers = {
            "plain": functools.partial(runs.session, "ce", **changes),
            "dlkd": functools.partial(runs.session, "dlkd", **changes),
            "store": functools.partial(runs.stored, "dlkd", **changes),
        }
        for name, make in makers.items():
            session = make()
            operators = dearest(session, options.steps)
            spent = shares(session, options.steps)
            total = sum(spent.values())
            found[name] = {
                "milliseconds": total,
                "parts": {part: value / total for part, value in spent.items()},
                "operators": operators,
            }
            print(name, f"{total:.1f} ms a step")
            for part, value in sorted(spent.items(), key=lambda item: -item[1]):
                print(f"  {part:<18} {100 * value / total:5.1f} %")
            for row in operators:
                print(f"  {100 * row['share']:5.1f} %  {row['calls_a_step']:7.1f} ×  {row['operator']}")
    write_json(options.out / f"profile-{options.label}.json", found)


if __name__ == "__main__":
    main()
