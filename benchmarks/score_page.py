"""The tables and the plot of `docs/evidence/score.md`, from `results/score.json`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from score_columns import DEFAULT_COLUMN, DOUBT_COLUMN, SPARSITIES
from score_plot import MASKS, TARGETS, Found, by_score, plot

from dlkd.files import write_atomic

DEFAULT, DOUBT = DEFAULT_COLUMN, DOUBT_COLUMN


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
    """Teacher, its tables, target."""
    return [(name, t, target) for name, t in found["teachers"].items() for target in t["share"]]


def headline(found: Found) -> str:
    body = []
    names = [DEFAULT, DOUBT, "entropy/tau1", "margin/tau1", "energy/tau1"]
    for name, t, target in each(found):
        rows = by_score(t["rows"])
        figures = [auroc(rows[score][target]) for score in names]
        gain = difference(rows[DEFAULT][target][3:])
        body.append([name, TARGETS[target], f"{100 * t['share'][target]:.1f}", *figures, gain])
    head = [
        "teacher",
        "target",
        "share %",
        "distance",
        "1 − max p",
        "entropy",
        "margin",
        "energy",
        "distance − (1 − max p)",
    ]
    return markdown(head, body)


def sparsities(found: Found) -> str:
    return "\n\n".join(
        f"{TARGETS[target].capitalize()}:\n\n{by_sparsity(found, target)}" for target in ("own_error", "human")
    )


def by_sparsity(found: Found, target: str) -> str:
    head = ["sparsity", *(f"{name} {mask}" for name in found["teachers"] for mask in MASKS)]
    body = []
    for sparsity in SPARSITIES:
        columns = [f"{mask.format(sparsity)}/l2/tau1" for mask in MASKS.values()]
        tables = [by_score(t["rows"]) for t in found["teachers"].values()]
        body.append([f"{sparsity:g}", *(auroc(rows[column][target]) for rows in tables for column in columns)])
    return markdown(head, body)


def accuracies(found: Found) -> str:
    """Accuracy of the probes, to see which of them still are ones."""
    head = ["sparsity", *(f"{name} {mask}" for name in found["teachers"] for mask in MASKS)]
    tables = [{row["probe"]: row["accuracy"] for row in t["probes"]} for t in found["teachers"].values()]
    first = ["0", *(f"{table['teacher']:.1f}" for table in tables for _ in MASKS)]
    rest = [
        [f"{s:g}", *(f"{table[mask.format(s)]:.1f}" for table in tables for mask in MASKS.values())] for s in SPARSITIES
    ]
    return markdown(head, [first, *rest])


def kinds(found: Found) -> str:
    wanted = ("l2/tau1", "l2/tau2", "l2/tau4", "l2/tau8", "logits", "js/tau1")
    head = ["teacher", "probe", "target", "τ_d = 1", "2", "4", "8", "logits", "js", "ρ with 1 − max p at 1 / 4"]
    body = []
    for name, t, target in each(found):
        rows = by_score(t["rows"])
        for probe in ("global-0.1", "global-0.3") if target in ("own_error", "human") else ():
            rho = " / ".join(f"{rows[f'{probe}/l2/tau{k}']['spearman']:.2f}" for k in (1, 4))
            figures = [auroc(rows[f"{probe}/{kind}"][target]) for kind in wanted]
            body.append([name, probe, TARGETS[target], *figures, rho])
    return markdown(head, body)


def norms(found: Found) -> str:
    head = ["teacher", "probe", *(f"{what}, {norm}" for what in ("own error", "people err") for norm in NORMS.values())]
    body = []
    for name, t in found["teachers"].items():
        rows = by_score(t["rows"])
        for probe in ("global-0", "global-0.1", "global-0.3", "layer-0.1", "layer-0.3"):
            columns = [f"{probe}{norm}/l2/tau1" for norm in NORMS]
            cells = [auroc(rows[c][k]) if c in rows else "–" for k in ("own_error", "human") for c in columns]
            body.append([name, probe, *cells])
    return markdown(head, body)


NORMS = {"": "eval", "-bn.batch": "batch", "-bn.recalibrated": "recalibrated"}


def several(found: Found) -> str:
    head = ["teacher", "sparsity", "target", "1 mask, mean ± sd", "2", "4", "8", "8 masks − 1", "8 masks − (1 − max p)"]
    body = []
    for name, t, target in each(found):
        if target == "given_wrong":
            continue
        for sparsity in (0.05, 0.1, 0.2):
            own = [r for r in t["random_probes"] if r["sparsity"] == sparsity and r["target"] == target]
            cells = [f"{r['auroc']:.3f}" + (f" ± {r['sd']:.3f}" if "sd" in r else "") for r in own]
            eight = by_score(t["rows"])[f"global-{sparsity:g}-random-mean8/l2/tau1"]
            body.append(
                [
                    name,
                    f"{sparsity:g}",
                    TARGETS[target],
                    *cells,
                    difference(own[-1]["above_one"]),
                    difference(eight[target][3:]),
                ]
            )
    return markdown(head, body)


def views(found: Found) -> str:
    head = ["teacher", "target", "score", "plain", "1 view", "4 views", "8 views", "8 views − plain"]
    body = []
    for name, t, target in each(found):
        for score in (DEFAULT, DOUBT):
            own = [r["figures"] for r in t["averaged_views"] if (r["score"], r["target"]) == (score, target)]
            plain = by_score(t["rows"])[score][target][0]
            body.append(
                [
                    name,
                    TARGETS[target],
                    TITLES[score],
                    f"{plain:.3f}",
                    *(f"{six[0]:.3f}" for six in own),
                    difference(own[-1][3:]),
                ]
            )
    return markdown(head, body)


TITLES = {DEFAULT: "distance", DOUBT: "1 − max p"}


def shown(found: Found) -> str:
    """The views as a training shows them, one each."""
    names = ["global-0.1/l2/tau1", DEFAULT, "global-0.5/l2/tau1", DOUBT, "entropy/tau1", "energy/tau1"]
    head = [
        "teacher",
        "view",
        "error %",
        "distance at 0.1",
        "0.3",
        "0.5",
        "1 − max p",
        "entropy",
        "energy",
        "0.3 − (1 − max p)",
    ]
    body = []
    for name, t in found["teachers"].items():
        for view, table in (
            ("crop, flip", t["one_view"]),
            ("cutmix", t["cutmix"]["rows"]),
            ("mixup", t["mixup"]["rows"]),
        ):
            rows = by_score(table)
            share = f"{100 * t[view]['share']:.1f}" if view in t else ""
            gain = difference(rows[DEFAULT]["own_error"][3:])
            body.append([name, view, share, *(auroc(rows[n]["own_error"]) for n in names), gain])
    return markdown(head, body)


def beyond(found: Found) -> str:
    added = {
        "entropy/tau1": "entropy",
        "energy/tau1": "energy",
        DEFAULT: "distance",
        "global-0.3/js/tau1": "js",
        "global-0.1-random-mean8/l2/tau1": "8 random masks",
    }
    head = ["teacher", "target", *(f"+ {title}" for title in added.values()), "all four + distance"]
    body = []
    for name, t, target in each(found):
        own = {(r["base"], r["added"]): r["figures"][3:] for r in t["beyond"] if r["target"] == target}
        four = next(base for base, _ in own if base.count("+") == 3)
        cells = [difference(own[DOUBT, score]) for score in added]
        body.append([name, TARGETS[target], *cells, difference(own[four, DEFAULT])])
    return markdown(head, body)


def chosen(found: Found) -> str:
    head = ["teacher", "target", "chosen on one half", "AUROC on the other", "− default", "− (1 − max p)"]
    body = [
        [
            name,
            TARGETS[row["target"]],
            f"`{row['chosen']}`",
            f"{row['auroc']:.3f}",
            difference(row["above_default"]),
            difference(row["above_doubt"]),
        ]
        for name, t in found["teachers"].items()
        for row in t["chosen"]
    ]
    return markdown(head, body)


def labels(found: Found) -> str:
    head = ["teacher", "score", "AUROC", "− cross-entropy"]
    body = []
    for name, t in found["teachers"].items():
        for row in t["label_aware"]:
            six = row["given_wrong"]
            score = row["score"].replace(DEFAULT, "distance").replace(DOUBT, "1 − max p")
            gain = "" if score.startswith("cross") else difference(six[3:])
            body.append([name, score.replace("cross_entropy/tau1", "cross-entropy"), f"{six[0]:.3f}", gain])
        for row in t["beyond"]:
            if row["base"].startswith("cross_entropy"):
                text = f"regression of {row['base']}, {row['added']} added"
                text = text.replace(DEFAULT, "distance").replace(DOUBT, "1 − max p")
                text = text.replace("cross_entropy/tau1", "cross-entropy")
                body.append([name, text, f"{row['figures'][0]:.3f}", difference(row["figures"][3:]) + " over without"])
    return markdown(head, body)


def coverage(found: Found) -> str:
    names = {DEFAULT: "distance", "entropy/tau1": "entropy", "margin/tau1": "margin", "energy/tau1": "energy"}
    names["global-0.1-random-mean8/l2/tau1"] = "8 random masks"
    head = ["teacher", "1 − max p", *(f"{title} − (1 − max p)" for title in names.values())]
    body = []
    for name, t in found["teachers"].items():
        own = {row["score"]: row["difference"] for row in t["aurc_above_doubt"]}
        first = f"{by_score(t['rows'])['max_probability/tau1']['aurc']:.2f}"
        body.append([name, first, *(difference(own[score], 2) for score in names)])
    return markdown(head, body)


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
