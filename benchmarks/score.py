"""Stage 0 of the evidence, the score: what does the probe distance know about images the teacher has not seen?

    python benchmarks/score.py --data ROOT --human cifar100n.npz --out results/score.json
    python benchmarks/score.py --out results/score.json --page docs/evidence/score.md  # tables and plot of the file

ROOT holds `cifar-100-python/`; the labels of people are CIFAR-100N's. The 5,000 held-out training images of
`data.seed 0`, and the three teachers of `results/teachers`, which learnt from the other 45,000; test images are not
looked at. One thread. Each teacher is written when it is finished, and an interrupted run begins with the next; with
`--cache FOLDER` it goes on within one.

Targets of an image: `own_error` and `other_error`, the teacher and a second one miss the clean label; `human`, the
label that people gave is not the clean one; `given_wrong`, the label as the teacher's training labels were made is not.
`gain` is over the AUROC of 1 − max p of the teacher on the same images. Intervals: 95 %, bootstrap over images (over
pairs where images are mixed), paired.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from score_answers import BATCH, RECALIBRATION_IMAGES, SECOND, TEACHERS, Answers, View, add_places, errors, read_images
from score_columns import PLAIN
from score_page import renew
from score_tables import Bootstrap, Plain, mixed_views, one_view, rounded

from dlkd.files import write_atomic
from dlkd.jobs.card import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_places(parser, required=False)
    parser.add_argument("--bootstrap", type=int, default=1000, help="samples (default: %(default)s)")
    parser.add_argument("--page", type=Path, help="renew the tables of this page and its plot; measures nothing")
    options = parser.parse_args()
    if options.page is not None:
        renew(options.page, read(options.out))
    elif options.data is None or options.human is None:
        parser.error("give --data and --human, or --page")
    else:
        measure_all(options)


def measure_all(options: argparse.Namespace) -> None:
    """Every teacher that is not in the file yet."""
    torch.set_num_threads(1)
    settings = {
        "seed": options.seed,
        "held_out": 0.1,
        "bootstrap": options.bootstrap,
        "batch": BATCH,
        "recalibration_images": RECALIBRATION_IMAGES,
    }
    done = read(options.out)
    if done and done["settings"] != settings:
        raise SystemExit(f"{options.out} is of other settings; give another --out, or take it away")
    teachers = done.get("teachers", {})
    for name in (name for name in TEACHERS if name not in teachers):
        started = time.monotonic()
        teachers[name] = measure(name, options)
        head = {"command": "python benchmarks/score.py", **machine(), "settings": settings}
        columns = ["auroc", "low", "high", "gain", "gain_low", "gain_high"]
        write(options.out, {**head, "columns": columns, "teachers": teachers})
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one teacher."""
    other = SECOND[name]
    images, theirs, people = (
        read_images(each, options.data, options.human, options.seed) for each in (name, other, "cifar100n")
    )
    answers, second = (
        Answers(who, of, options.teachers, options.cache) for who, of in ((name, images), (other, theirs))
    )
    labels, bootstrap = images.samples.labels, Bootstrap(options.bootstrap, options.seed)
    targets = {
        "own_error": errors(answers(PLAIN), labels),
        "other_error": errors(second(PLAIN), labels),
        "human": people.wrong,
    }
    if images.wrong.any():
        targets["given_wrong"] = images.wrong
    return {
        "second": other,
        "images": len(labels),
        "confidence": rounded(100 * torch.softmax(answers(PLAIN), dim=1).amax(dim=1).mean()),
        "share": {target: rounded(positive.mean()) for target, positive in targets.items()},
        **Plain(answers, targets, bootstrap).tables(),
        "one_view": one_view(answers, bootstrap),
        **{kind: mixed_views(answers, second, View(kind), bootstrap) for kind in ("cutmix", "mixup")},
    }


def read(path: Path) -> dict[str, Any]:
    """What is in the file; nothing where there is none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def write(path: Path, found: Mapping[str, Any]) -> None:
    """As JSON with a row a line: hundreds of rows of a dozen numbers are to be read by people too."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    for innermost in (r"\[[^][{}]*\]", r"\{[^{}]*\}"):
        text = re.sub(innermost, lambda match: " ".join(match.group().split()), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text + "\n")


if __name__ == "__main__":
    main()
