"""The tables and the plot of `docs/evidence/score.md`, from `results/score.json`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from score_columns import (
    DISTANCE_COLUMN,
    DISTANCES,
    DOUBT_COLUMN,
    LABEL_COLUMN,
    PROBE,
    SHARP_COLUMN,
    SPARSITIES,
    TEMPERATURES,
    random_mean,
)
from score_plot import MASKS, TARGETS, Found, by_score, plot

from dlkd.files import write_atomic

DISTANCE, DOUBT, SHARP = DISTANCE_COLUMN, DOUBT_COLUMN, SHARP_COLUMN
RANDOM = random_mean(0.01, DISTANCES[1])
TITLES = {
    DISTANCE: "distance",
    SHARP: "distance, τ_d ¼",
    DOUBT: "1 − max p",
    LABEL_COLUMN: "cross-entropy",  # before the next, which is a part of its name
    "entropy/tau1": "entropy",
    "margin/tau1": "margin",
    "energy/tau1": "energy",
    f"{PROBE.name}/js/tau1": "js",
    RANDOM: "8 random masks of 1 %, τ_d ¼",
}
VIEWS = {"one_view": "crop, flip", "cutmix": "cutmix", "mixup": "mixup"}
NORMS = {"": "eval", "-bn.batch": "batch", "-bn.recalibrated": "recalibrated"}


def auroc(six: Sequence[float]) -> str:
    """The figure; what is above or below the reference by more than its interval is marked."""
    mark = "⁺" if six[4] > 0 else "⁻" if six[5] < 0 else ""
    return f"{six[0]:.3f}{mark}"


def difference(three: Sequence[float], digits: int = 3) -> str:
    """A difference with its interval, bold where it is away from 0 by more than that."""
    value, low, high = (f"{part:+.{digits}f}".replace("-", "−") for part in three)
    text = f"{value} ({low} to {high})"
    return f"**{text}**" if three[1] > 0 or three[2] < 0 else text


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def each(found: Found) -> list[tuple[str, Found, str]]:
    """Teacher, its tables, target; the labels that people gave are those given to the teacher of CIFAR-100N."""
    every = [(name, t, target) for name, t in found["teachers"].items() for target in t["share"]]
    return [row for row in every if (row[0], row[2]) != ("cifar100n", "given_wrong")]


def titled(text: str) -> str:
    """A name of a score, or a text with some in it, in words."""
    for name, title in TITLES.items():
        text = text.replace(name, title)
    return text


def headline(found: Found) -> str:
    names = [DISTANCE, SHARP, DOUBT, "entropy/tau1", "margin/tau1", "energy/tau1"]
    head = ["teacher", "target", "share %", *map(titled, names), "distance − (1 − max p)", "at τ_d ¼"]
    body = []
    for name, t, target in each(found):
        rows = by_score(t["rows"])
        gains = [difference(rows[score][target][3:]) for score in (DISTANCE, SHARP)]
        share = f"{100 * t['share'][target]:.1f}"
        body.append([name, TARGETS[target], share, *(auroc(rows[score][target]) for score in names), *gains])
    return markdown(head, body)


def chosen(found: Found) -> str:
    """Chosen on one half of the images, judged on the other; both ways round, one below the other."""
    head = ["teacher", "target", "chosen on one half", "AUROC on the other", "− distance", "− (1 − max p)"]
    body = []
    for name, t, target in each(found):
        for row in (row for row in t["chosen"] if row["target"] == target != "given_wrong"):
            gains = [difference(row[f"above_{reference}"]) for reference in ("default", "doubt")]
            body.append([name, TARGETS[target], f"`{row['chosen']}`", f"{row['auroc']:.3f}", *gains])
    return markdown(head, body)


def beyond(found: Found) -> str:
    added = ["entropy/tau1", "energy/tau1", DISTANCE, SHARP, f"{PROBE.name}/js/tau1", RANDOM]
    head = ["teacher", "target", *(f"+ {titled(name)}" for name in added), "all four + distance, τ_d ¼"]
    body = []
    for name, t, target in each(found):
        own = {(r["base"], r["added"]): r["figures"][3:] for r in t["beyond"] if r["target"] == target}
        four = next(base for base, _ in own if base.count("+") == 3)
        cells = [difference(own[DOUBT, score]) for score in added]
        body.append([name, TARGETS[target], *cells, difference(own[four, SHARP])])
    return markdown(head, body)


def coverage(found: Found) -> str:
    names = [DISTANCE, SHARP, "entropy/tau1", "margin/tau1", "energy/tau1", RANDOM]
    head = ["teacher", "accuracy %", "mean max p %", "1 − max p", *(f"{titled(name)} − that" for name in names)]
    body = []
    for name, t in found["teachers"].items():
        own = {row["score"]: row["difference"] for row in t["aurc_above_doubt"]}
        accuracy = next(row["accuracy"] for row in t["probes"] if row["probe"] == "teacher")
        first = [f"{accuracy:.1f}", f"{t['confidence']:.1f}", f"{by_score(t['rows'])[DOUBT]['aurc']:.2f}"]
        body.append([name, *first, *(difference(own[score], 2) for score in names)])
    return markdown(head, body)


def sparsities(found: Found) -> str:
    return "\n\n".join(f"τ_d = {title}:\n\n{by_sparsity(found, tau)}" for title, tau in (("1", "1"), ("¼", "0.25")))


def by_sparsity(found: Found, tau: str) -> str:
    head = ["sparsity", *(f"{name} {mask}" for name in found["teachers"] for mask in MASKS)]
    tables = [by_score(t["rows"]) for t in found["teachers"].values()]
    body = []
    for sparsity in SPARSITIES:
        columns = [f"{mask.format(sparsity)}/l2/tau{tau}" for mask in MASKS.values()]
        body.append([f"{sparsity:g}", *(auroc(rows[column]["own_error"]) for rows in tables for column in columns)])
    return markdown(head, body)


def accuracies(found: Found) -> str:
    """Accuracy of the probes, to see which of them still are ones."""
    head = ["sparsity", *(f"{name} {mask}" for name in found["teachers"] for mask in MASKS)]
    tables = [{row["probe"]: row["accuracy"] for row in t["probes"]} for t in found["teachers"].values()]
    body = [["0", *(f"{table['teacher']:.1f}" for table in tables for _ in MASKS)]]
    for s in (0.01, 0.02, *SPARSITIES):
        names = [mask.format(s) for mask in MASKS.values()]
        cells = [f"{table[name]:.1f}" if name in table else "–" for table in tables for name in names]
        body.append([f"{s:g}", *cells])
    return markdown(head, body)


def kinds(found: Found) -> str:
    wanted = [*(f"l2/tau{t:g}" for t in TEMPERATURES), "logits", "js/tau1", "cosine"]
    head = ["teacher", "figure", *(f"τ_d {t:g}" for t in TEMPERATURES), "logits", "js", "cosine"]
    body = []
    for name, t in found["teachers"].items():
        rows = by_score(t["rows"])
        own = [rows[f"{PROBE.name}/{kind}"] for kind in wanted]
        for target in ("own_error", "human"):
            body.append([name, f"AUROC, {TARGETS[target]}", *(auroc(row[target]) for row in own)])
        rho = [f"{row['spearman']:.2f}".replace("-", "−") for row in own]
        body.append([name, "Spearman with 1 − max p", *rho])
    return markdown(head, body)


def norms(found: Found) -> str:
    head = ["teacher", "sparsity", *(f"τ_d {tau}, {norm}" for tau in ("1", "¼") for norm in NORMS.values())]
    body = []
    for name, t in found["teachers"].items():
        rows = by_score(t["rows"])
        for sparsity in (0, 0.1, 0.3):
            columns = [f"global-{sparsity:g}{norm}/l2/tau{tau}" for tau in ("1", "0.25") for norm in NORMS]
            body.append([name, f"{sparsity:g}", *(auroc(rows[c]["own_error"]) if c in rows else "–" for c in columns)])
    return markdown(head, body)


def several(found: Found) -> str:
    head = ["teacher", "sparsity", "τ_d", "1 mask, mean ± sd", "8 masks", "8 masks − 1", "8 masks − (1 − max p)"]
    body = []
    for name, t in found["teachers"].items():
        table = [row for row in t["random_probes"] if row["target"] == "own_error" and row["sparsity"] <= 0.02]
        ones, eights = ([row for row in table if row["probes"] == count] for count in (1, 8))
        for one, eight in zip(ones, eights, strict=True):
            distance = DISTANCES[one["tau"] < 1]
            doubt = by_score(t["rows"])[random_mean(one["sparsity"], distance)]["own_error"][3:]
            cells = [f"{one['auroc']:.3f} ± {one['sd']:.3f}", f"{eight['auroc']:.3f}"]
            gains = [difference(eight["above_one"]), difference(doubt)]
            body.append([name, f"{one['sparsity']:g}", "¼" if one["tau"] < 1 else "1", *cells, *gains])
    return markdown(head, body)


def views(found: Found) -> str:
    scores = (DISTANCE, SHARP, DOUBT)
    head = ["teacher", "target", *(text for s in scores for text in (f"{titled(s)}, 8 views", "− plain"))]
    body = []
    for name, t, target in each(found):
        own = {r["score"]: r["figures"] for r in t["averaged_views"] if (r["views"], r["target"]) == (8, target)}
        if target != "given_wrong":
            cells = [text for s in scores for text in (f"{own[s][0]:.3f}", difference(own[s][3:]))]
            body.append([name, TARGETS[target], *cells])
    return markdown(head, body)


def shown(found: Found) -> str:
    """The views as a training shows them, one each."""
    names = [f"global-{s}/l2/tau{tau}" for tau in ("1", "0.25") for s in (0.1, 0.3)]
    names += [DOUBT, "entropy/tau1", "energy/tau1"]
    titles = [f"τ_d {tau}, sparsity {s}" for tau in ("1", "¼") for s in (0.1, 0.3)]
    head = ["teacher", "view", "error %", *titles, "1 − max p", "entropy", "energy"]
    body = []
    for name, t in found["teachers"].items():
        for view in ("one_view", "cutmix", "mixup"):
            rows = by_score(t[view]["rows"])
            cells = [auroc(rows[n]["own_error"]) for n in names]
            body.append([name, VIEWS[view], f"{100 * t[view]['share']:.1f}", *cells])
    return markdown(head, body)


def labels(found: Found) -> str:
    """A column for each teacher of wrong labels: its AUROC, and what that is above the reference."""
    rows: dict[str, list[str]] = {}
    taught = {name: t for name, t in found["teachers"].items() if t["label_aware"]}
    for t in taught.values():
        known = [(titled(row["score"]), row["given_wrong"]) for row in t["label_aware"]]
        for row in (row for row in t["beyond"] if row["base"].startswith("cross_entropy")):
            known.append((f"{titled(row['base'])}; {titled(row['added'])} added", row["figures"]))
        for title, six in known:
            gain = "" if title == TITLES[LABEL_COLUMN] else difference(six[3:])
            rows.setdefault(title, [title]).extend([f"{six[0]:.3f}", gain])
    head = ["score", *(text for name in taught for text in (f"{name}: AUROC", "− reference"))]
    return markdown(head, list(rows.values()))


TABLES: dict[str, Callable[[Found], str]] = {
    f.__name__: f
    for f in (headline, chosen, beyond, coverage, sparsities, accuracies, kinds, norms, several, views, shown, labels)
}


def renew(page: Path, found: Found) -> None:
    """Put every table between its marks, ``<!-- name -->`` and ``<!-- end -->``, and draw the plot beside the page."""
    text = page.read_text()
    for name, table in TABLES.items():
        before, after = around(text, name, page)
        text = f"{before}{table(found)}\n{after}"
    write_atomic(page, text)
    plot(page.with_suffix(".svg"), found)


def around(text: str, name: str, page: Path) -> tuple[str, str]:
    """What stands before a table and after it, marks included."""
    found = re.fullmatch(rf"(.*<!-- {name} -->\n).*?(<!-- end -->.*)", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"expected <!-- {name} --> and <!-- end --> in {page}, but they are missing")
    return found[1], found[2]
