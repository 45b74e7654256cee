"""The rows of `results/score.json`: figures of every score for every target."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from score_answers import Answers, View, errors, mixed
from score_columns import (
    DISTANCE,
    DISTANCE_COLUMN,
    DISTANCES,
    DOUBT_COLUMN,
    LABEL_COLUMN,
    MAGNITUDE,
    NORMS,
    PLAIN,
    PROBE,
    RANDOM,
    RANDOM_LAYER,
    RANDOM_SEEDS,
    SHARP_COLUMN,
    WITHOUT_PROBE,
    Columns,
    headline,
    mean_over,
    plain_columns,
    random_mean,
    shown,
    singles,
    view_columns,
    with_label,
    with_probe,
)
from score_figures import (
    Bools,
    Floats,
    Interval,
    Ruler,
    aurc,
    aurc_difference,
    auroc,
    beyond,
    chosen_by_halves,
    resamples,
)

VIEWS = 8
Rows = list[dict[str, Any]]


class Bootstrap(NamedTuple):
    """How intervals are drawn."""

    samples: int
    seed: int


class Plain:
    """All that is said about the plain images of one teacher.

    Args:
        answers: of the teacher.
        targets: name → ``[N]``, what a score should tell; see the script.
    """

    def __init__(self, answers: Answers, targets: Mapping[str, Bools], bootstrap: Bootstrap) -> None:
        self.answers, self.targets, self.bootstrap = answers, targets, bootstrap
        self.columns = plain_columns(answers)
        self.doubt = self.columns[DOUBT_COLUMN]
        self.weights = resamples(len(self.doubt), *bootstrap)
        self.rulers = {name: Ruler(positive, self.weights, self.doubt) for name, positive in targets.items()}

    def tables(self) -> dict[str, Rows]:
        """Every table by its name."""
        return {
            "probes": probes(self.answers),
            "rows": rows(shown(self.columns), self.rulers, self.doubt, self.targets["own_error"]),
            "label_aware": self.label_aware(),
            "random_probes": self.random_probes(),
            "averaged_views": self.averaged_views(),
            "aurc_above_doubt": self.aurc_above_doubt(),
            "beyond": self.beyond(),
            "chosen": self.chosen(),
        }

    def aurc_above_doubt(self) -> Rows:
        """AURC less that of 1 − max p, in points: below 0 is better."""
        error = self.targets["own_error"]
        differences = {
            name: aurc_difference(self.columns[name], self.doubt, error, self.weights)
            for name in headline(self.columns)
        }
        return [{"score": name, "difference": three(difference)} for name, difference in differences.items()]

    def seeing_the_label(self) -> Columns:
        return with_label(self.answers(PLAIN), self.answers.images.given, self.columns)

    def label_aware(self) -> Rows:
        """How well scores that see the given label find the wrong ones; ``gain`` is over its cross-entropy."""
        if "given_wrong" not in self.targets:
            return []
        found = self.seeing_the_label()
        ruler = Ruler(self.targets["given_wrong"], self.weights, found[LABEL_COLUMN])
        return [{"score": name, "given_wrong": six(ruler(score))} for name, score in found.items()]

    def random_probes(self) -> Rows:
        """AUROC of the mean distance over 1, 2, 4 and 8 random masks: mean and sd over disjoint groups of masks."""
        found: Rows = []
        for sparsity, distance in itertools.product((s for s, seeds in RANDOM_SEEDS.items() if seeds > 1), DISTANCES):
            each = singles(self.columns, sparsity, distance)
            for target, ruler in self.rulers.items():
                for count in (1, 2, 4, 8):
                    groups = [mean_over(each[k : k + count]) for k in range(0, len(each), count)]
                    values = [float(auroc(score, ruler.positive)[0]) for score in groups]
                    row = {"sparsity": sparsity, "tau": distance.temperature, "target": target, "probes": count}
                    row |= {"auroc": rounded(np.mean(values))}
                    row |= {"sd": rounded(np.std(values, ddof=1))} if len(values) > 1 else {}
                    row |= {"above_one": three(ruler.above_mean(groups[0], each))} if len(values) == 1 else {}
                    found.append(row)
        return found

    def averaged_views(self) -> Rows:
        """Scores averaged over 1, 4 and 8 crop-and-flip views; ``gain`` is over the same score of the plain image."""
        each = [view_columns(self.answers, View("crop_flip", k)) for k in range(VIEWS)]
        found: Rows = []
        for name in (DOUBT_COLUMN, "entropy/tau1", "energy/tau1", DISTANCE_COLUMN, SHARP_COLUMN):
            for target, positive in self.targets.items():
                ruler = Ruler(positive, self.weights, self.columns[name])
                for count in (1, 4, 8):
                    figures = six(ruler(mean_over([view[name] for view in each[:count]])))
                    found.append({"score": name, "views": count, "target": target, "figures": figures})
        return found

    def beyond(self) -> Rows:
        """What is known together beyond the base alone, out of fold; see :func:`score_figures.beyond`."""
        teacher_only = [f"{name}/tau1" for name in WITHOUT_PROBE]
        probed = [DISTANCE_COLUMN, SHARP_COLUMN, f"{PROBE.name}/js/tau1"]
        probed += [random_mean(0.01, distance) for distance in DISTANCES]
        wanted = [([DOUBT_COLUMN], name) for name in (*teacher_only[1:], *probed)]
        wanted += [(teacher_only, name) for name in (DISTANCE_COLUMN, SHARP_COLUMN)]
        with_it = [([LABEL_COLUMN], name) for name in (DOUBT_COLUMN, DISTANCE_COLUMN, SHARP_COLUMN)]
        with_it += [([LABEL_COLUMN, DOUBT_COLUMN], name) for name in (DISTANCE_COLUMN, SHARP_COLUMN)]
        found: Rows = []
        for target, positive in self.targets.items():
            known = {**self.columns, **(self.seeing_the_label() if target == "given_wrong" else {})}
            for base, name in [*wanted, *(with_it if target == "given_wrong" else [])]:
                both = beyond([known[b] for b in base], [known[name]], positive, self.weights)
                found.append({"target": target, "base": " + ".join(base), "added": name, "figures": six(both)})
        return found

    def chosen(self) -> Rows:
        """The best score of a probe, chosen on half of the images and judged on the other half."""
        candidates = with_probe(shown(self.columns))
        references = {"doubt": self.doubt, "default": self.columns[DISTANCE_COLUMN]}
        found: Rows = []
        for target, positive in self.targets.items():
            for half in chosen_by_halves(
                candidates, references, positive, lambda n: resamples(n, *self.bootstrap), self.bootstrap.seed
            ):
                row = {"target": target, "of": len(candidates), "chosen": half.name, "auroc": rounded(half.auroc)}
                found.append(row | {f"above_{name}": three(value) for name, value in half.above.items()})
        return found


def probes(answers: Answers) -> Rows:
    """Accuracy of every probe in per cent, and its mean distance."""
    labels, teacher = answers.images.samples.labels, answers(PLAIN)
    found: Rows = [{"probe": "teacher", "accuracy": round(100 - 100 * errors(teacher, labels).mean(), 2)}]
    for spec in (*MAGNITUDE, *RANDOM, *RANDOM_LAYER, *NORMS):
        logits = answers(PLAIN, spec)
        accuracy = round(100 - 100 * errors(logits, labels).mean(), 2)
        distance = rounded(DISTANCE(teacher, probe_logits=logits).mean())
        found.append({"probe": spec.name, "accuracy": accuracy, "distance": distance})
    return found


def rows(columns: Columns, rulers: Mapping[str, Ruler], doubt: Floats, error: Bools) -> Rows:
    """One for each score: AUROC and gain of every target, AURC and rank correlation with 1 − max p."""
    return [
        {
            "score": name,
            "spearman": rounded(spearmanr(score, doubt).statistic),
            "aurc": round(aurc(score, error), 2),
            **{target: six(ruler(score)) for target, ruler in rulers.items()},
        }
        for name, score in columns.items()
    ]


def one_view(answers: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    """Scores of one augmented view, for the teacher's error on that very view."""
    view = View("crop_flip", 0)
    columns, labels = view_columns(answers, view), answers.images.samples.labels
    wrong, doubt = errors(answers(view), labels), columns[DOUBT_COLUMN]
    ruler = Ruler(wrong, resamples(len(wrong), *bootstrap), doubt)
    return {"share": rounded(wrong.mean()), "rows": rows(columns, {"own_error": ruler}, doubt, wrong)}


def mixed_views(answers: Answers, second: Answers, view: View, bootstrap: Bootstrap) -> dict[str, Any]:
    """Scores of mixed views; an error is to name another class than that of the larger share."""
    label, _, pair = mixed(answers.images.samples, view)
    wrong, other = errors(answers(view), label), errors(second(view), label)
    columns, weights = view_columns(answers, view), resamples(len(label), *bootstrap, pair)
    doubt = columns[DOUBT_COLUMN]
    rulers = {"own_error": Ruler(wrong, weights, doubt), "other_error": Ruler(other, weights, doubt)}
    return {"share": rounded(wrong.mean()), "rows": rows(columns, rulers, doubt, wrong)}


def rounded(value: Any) -> float:
    return round(float(value), 4)


def three(value: Interval) -> list[float]:
    return [rounded(part) for part in value]


def six(both: tuple[Interval, Interval]) -> list[float]:
    """AUROC with its interval, then the gain with its own."""
    return [*three(both[0]), *three(both[1])]
