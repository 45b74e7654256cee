"""``dlkd tune``: the same small budget for the settings of each method, judged on held-out images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dlkd.compare.names import check_folder
from dlkd.compare.render import markdown
from dlkd.compare.search import Search, nested_names
from dlkd.compare.study import StudyOptions, plan
from dlkd.compare.tables import NOT_RUN, Part, print_part
from dlkd.compare.work import finished, run_all
from dlkd.errors import UserError
from dlkd.files import write_atomic, write_json
from dlkd.pages.merge import Page, merged, nested
from dlkd.regular import read_regular
from dlkd.train.options import DistillOptions

ASKED = "asked.json"
"""Settings of every trial so far, in the folder of the search."""
LARGEST = 1 << 24
"""Bytes of that file."""


@dataclass(frozen=True)
class TuneOptions(StudyOptions):
    """Find settings for each method with one small budget; no test image is read.

    The first trial of a method is its settings as they stand, so that none comes out worse on the held-out images than
    it went in. Then come its tries, if there are any. Others are drawn at random until there are five, then those near
    good ones are preferred (Optuna's TPE). What is kept is the best mean of the held-out accuracy over conditions,
    pairs and seeds; of equals the one with the lower negative log-likelihood there.

    Attributes:
        space: method → option → where to look: ``{low: 1, high: 8}``, in equal ratios if low is above 0, or a list to
            choose from; as ``{kd: {loss.temperature: {low: 1, high: 8}, loss.kd_weight: [0.9, 3, 9]}}``. A method that
            is not named is run once.
        tries: method → settings that are worth a trial, as ``{kd: [{loss.kd_weight: 9}]}``; what one does not name is
            as it stands.
        trials: of each method that has something to tune, those as it stands and the tries among them.
        draw: seed of the search.
    """

    out: Path = Path("runs/tune")
    seeds: list[int] | int = 1
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    trials: int = 8
    draw: int = 0

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        super().check()
        if not 0 <= self.draw < 2**32:
            raise UserError(f"expected --draw to be in [0, 2³²), but got {self.draw}")
        if self.trials < 1:
            raise UserError(f"expected --trials to be at least 1, but got {self.trials}")
        for method, space in self.space.items():
            if method not in self.methods:
                raise UserError(f"expected --space to be of some of --methods, but got {method}")
            if not isinstance(space, dict):
                raise UserError(f"expected options and where to look as --space.{method}, but got {space!r:.80}")
        for method, tries in self.tries.items():
            if method not in self.space:
                raise UserError(f"expected --tries to be of methods that have a --space, but got {method}")
            if not isinstance(tries, list) or not all(isinstance(settings, dict) for settings in tries):
                raise UserError(f"expected a list of groups of options as --tries.{method}, but got {tries!r:.80}")
            if len(tries) >= self.trials:
                raise UserError(
                    f"expected --trials to be above the {len(tries)} tries of {method}, since its settings as they "
                    f"stand are tried too, but got {self.trials}"
                )


def tune(options: TuneOptions) -> dict[str, Any]:
    """Run all trials; returns the content of ``results.json``. ``tuned.yaml`` is a page for ``dlkd compare``.

    Raises:
        UserError: options that no run would take; a space that is none; Optuna is not there.
        Interrupted: told to stop; the same command goes on.
    """
    options.check()
    check_folder(options.out, "tune")
    before = _asked_before(options)
    searches = {method: _search(options, method, before.get(method, [])) for method in options.methods}
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.trials):
        asked = {method: page for method, search in searches.items() if (page := search.ask(number)) is not None}
        trials = {method: [trial["settings"] for trial in search.trials] for method, search in searches.items()}
        write_json(options.out / ASKED, {"of": _identity(options), "asked": trials | _further(before, trials)})
        cells = plan(_study(options, {f"{method}.{number}": page for method, page in asked.items()}))
        if not options.collect:
            left = sum(not finished(cell) for cell in cells)
            print(f"trial {number + 1} of {options.trials}: {len(cells)} cells, {left} to be run", flush=True)
            run_all(cells, options.workers)
        for method in asked:
            searches[method].tell([cell for cell in cells if cell.method == f"{method}.{number}"])
    found = _found(options, searches)
    write_json(options.out / "results.json", found)
    write_atomic(options.out / "tuned.yaml", _tuned(options, searches))
    write_atomic(options.out / "table.md", markdown(*table(found)))
    columns, rows = table(found)
    print_part(Part("held-out accuracy %", columns, rows), words=(columns[0], columns[-1]))
    print(f"Settings: {options.out / 'tuned.yaml'}; use them with dlkd compare --config {options.out / 'tuned.yaml'}")
    return found


def _search(options: TuneOptions, method: str, before: Sequence[dict[str, Any]]) -> Search:
    def run(page: Page) -> DistillOptions:
        return plan(_study(options, {method: page}))[0].options

    space, tries = options.space.get(method, {}), options.tries.get(method, [])
    return Search(method, options.pages[method], run, space, tries, options.draw, before)


def _identity(options: TuneOptions) -> dict[str, Any]:
    """What decides which settings are asked for, but for what the trials come to."""
    return {"space": options.space, "tries": options.tries, "draw": options.draw, "methods": options.pages}


def _asked_before(options: TuneOptions) -> dict[str, list[dict[str, Any]]]:
    """Settings of the trials that an earlier start of the same search has asked for, by method.

    A cell that failed then may be run now, and the sampler would go another way than before: away from cells that are
    finished. A file that is damaged, or of another search, is as good as none.
    """
    try:
        kept = json.loads(read_regular(options.out / ASKED, LARGEST))
        same = kept["of"] == json.loads(json.dumps(_identity(options)))
        return {str(method): [dict(of) for of in asked] for method, asked in kept["asked"].items()} if same else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _further(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Trials of a larger budget stay known to a search that is gone on with by a smaller one."""
    return {method: [*of, *before[method][len(of) :]] for method, of in now.items() if method in before}


def _study(options: TuneOptions, methods: Mapping[str, Page]) -> StudyOptions:
    return replace(options, methods=dict(methods), space={}, tries={})


def _found(options: TuneOptions, searches: Mapping[str, Search]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    rows = []
    for method, search in searches.items():
        about |= search.about
        rows.append({"method": method, "options": search.page, "trials": search.trials, "best": search.best})
    return {
        "command": "tune",
        "recipe": options.recipe,
        "seeds": options.seed_list,
        "trials": options.trials,
        "draw": options.draw,
        "space": {method: nested_names(space) for method, space in options.space.items()},
        "tries": options.tries,
        "methods": rows,
        **about,
    }


def _tuned(options: TuneOptions, searches: Mapping[str, Search]) -> str:
    pages = {}
    for method, search in searches.items():
        best = {} if search.best is None else search.trials[search.best]["settings"]
        pages[method] = merged(search.page, nested(best))
    head = (
        f"# Best of {options.trials} trials each by held-out accuracy, found by dlkd tune; every trial: results.json.\n"
    )
    return head + yaml.safe_dump({"methods": pages}, sort_keys=False, allow_unicode=True)


def table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row for each method: as it was, its best, and what that is."""
    places = list(dict.fromkeys(place for row in found["methods"] for t in row["trials"] for place in t["held_out"]))
    columns = ["method", "before", "best", *(places if len(places) > 1 else []), "settings"]
    return columns, [list(_cells(row, places)) for row in found["methods"]]


def _cells(row: Mapping[str, Any], places: Sequence[str]) -> Iterator[str]:
    yield row["method"]
    best = None if row["best"] is None else row["trials"][row["best"]]
    yield from (_percent(None if trial is None else trial["mean"]) for trial in (row["trials"][0], best))
    if len(places) > 1:
        yield from ("" if best is None else _percent(best["held_out"].get(place)) for place in places)
    yield "" if best is None else ", ".join(f"{name.removeprefix('loss.')} {v}" for name, v in best["settings"].items())


def _percent(value: float | None) -> str:
    return NOT_RUN if value is None else f"{value:.2f}"
