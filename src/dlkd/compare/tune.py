"""``dlkd tune``: the same small budget for the settings of each method, judged on held-out images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import yaml

from dlkd.compare.collect import ABOUT
from dlkd.compare.found import read_cells, reason_of
from dlkd.compare.render import markdown
from dlkd.compare.study import Cell, StudyOptions, plan
from dlkd.compare.tables import NOT_RUN, Part, print_part
from dlkd.compare.work import failure, finished, run_all
from dlkd.errors import UserError
from dlkd.files import write_atomic, write_json
from dlkd.methods import resolve_loss
from dlkd.pages.merge import Page, merged, nested
from dlkd.train.options import DistillOptions

if TYPE_CHECKING:
    import optuna

FIGURE = "held_out"
"""What settings are chosen by: the accuracy on held-out images with their labels as given, noise included."""
TIES = "nll"
"""What decides between settings of the same accuracy, of the same images: a few hundred of them leave many ties."""
AT_RANDOM = 5
"""Trials before the search looks at what it has found, the settings as they stand among them. It does not depend on the
budget, so that a larger one goes on where a smaller one ended."""
DIGITS = 3
"""Significant digits of a setting: more would be of no effect, and nobody wants to read them."""


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
    searches = {method: _Search(options, method) for method in options.methods}
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.trials):
        asked = {method: page for method, search in searches.items() if (page := search.ask(number)) is not None}
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


class _Search:
    """Of one method."""

    def __init__(self, options: TuneOptions, method: str) -> None:
        self.page = options.pages[method]
        self._study = _new_study(options.draw)  # first, since it says so where Optuna is missing
        first = plan(_study(options, {method: self.page}))[0].options
        space = nested_names(options.space.get(method, {}))
        before = {name: _value(first, method, name) for name in space}
        self.space = {name: _distribution(method, name, where, before[name]) for name, where in space.items()}
        tries = [nested_names(settings) for settings in options.tries.get(method, [])]
        for settings in [before, *(before | settings for settings in tries)] if self.space else []:
            _check_try(method, settings, self.space)
            self._study.enqueue_trial(settings)
        self._asked: optuna.Trial | None = None
        self.trials: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        """Versions and machine of what was run."""

    def ask(self, number: int) -> Page | None:
        """The options of the next trial; None where there is nothing left to try."""
        if number and not self.space:
            return None
        self._asked = self._study.ask(self.space)
        params = {name: _rounded(value) for name, value in self._asked.params.items()}
        self.trials.append({"settings": params})
        return merged(self.page, nested(params))

    def tell(self, cells: Sequence[Cell]) -> None:
        """What the trial came to."""
        assert self._asked is not None
        trial, by_place = self.trials[-1], {cell.place: list[float]() for cell in cells}
        done = read_cells(cells)
        for found in done:
            by_place[found.cell.place].append(found.figures[FIGURE])
            self.about |= {key: found.results[key] for key in ABOUT if key in found.results}
        values = [value for of in by_place.values() for value in of]
        trial["held_out"] = {place: mean(of) if of else None for place, of in by_place.items()}
        trial["mean"] = mean(values) if len(values) == len(cells) else None
        trial["nll"] = mean(found.figures[TIES] for found in done) if len(values) == len(cells) else None
        if reasons := {f"{cell.row} seed {cell.seed}": reason_of(cell) for cell in cells if failure(cell).is_file()}:
            trial["failed"] = reasons
        self._study.tell(self._asked, trial["mean"], state=_state(trial["mean"]))

    @property
    def best(self) -> int | None:
        """Number of the best trial; None where none was finished."""
        finished = [number for number, trial in enumerate(self.trials) if trial["mean"] is not None]
        return max(finished, key=lambda k: (self.trials[k]["mean"], -self.trials[k]["nll"]), default=None)


def nested_names(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"loss": {"temperature": where}}`` as ``{"loss.temperature": where}``."""
    found: dict[str, Any] = {}
    for key, where in space.items():
        if isinstance(where, dict) and not {"low", "high"} & where.keys():
            found |= nested_names(where, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = where
    return found


def _distribution(method: str, name: str, where: Any, before: Any) -> Any:
    """Where to look, around the value ``before``."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    outside = UserError(
        f"expected the value of {name} that {method} has by default, {before}, to lie within its --space, since it is "
        "tried first"
    )
    if isinstance(where, list) and where:
        if before not in where:
            raise outside
        return CategoricalDistribution(where)
    numbers = where.values() if isinstance(where, dict) and where.keys() == {"low", "high"} else ()
    if not numbers or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise UserError(
            f"expected --space of {method}, {name}, to be {{low: 1, high: 8}} or a list to choose from, but got "
            f"{where!r:.80}"
        )
    low, high = where["low"], where["high"]
    if low >= high:
        raise UserError(f"expected low to be below high in --space of {method}, {name}, but got {low} and {high}")
    if not isinstance(before, (int, float)) or not low <= before <= high:
        raise outside
    # A whole number stays one.
    kind = IntDistribution if all(isinstance(n, int) for n in (before, low, high)) else FloatDistribution
    return kind(low, high, log=low > 0)


def _check_try(method: str, settings: Mapping[str, Any], space: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in space:
            raise UserError(f"expected --tries of {method} to name options of its --space, but got {name}")
        where = space[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (value in where.choices if hasattr(where, "choices") else number and where.low <= value <= where.high):
            raise UserError(f"expected --tries of {method} to lie within its --space, but got {value!r:.80} for {name}")


def _value(run: DistillOptions, method: str, name: str) -> Any:
    group, _, last = name.rpartition(".")
    try:
        if group == "loss":
            return resolve_loss(run.method, run.loss)[last]
        found: Any = run
        for part in name.split("."):
            found = getattr(found, part)
        return found
    except (KeyError, AttributeError):
        raise UserError(f"expected --space to name options of {method}, but got {name}") from None


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _new_study(seed: int) -> optuna.Study:
    try:
        import optuna
    except ImportError:
        raise UserError("dlkd tune needs Optuna: pip install 'dlkd[tuning]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=AT_RANDOM, multivariate=True)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _state(value: float | None) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    return TrialState.FAIL if value is None else TrialState.COMPLETE


def _study(options: TuneOptions, methods: Mapping[str, Page]) -> StudyOptions:
    return replace(options, methods=dict(methods), space={}, tries={})


def _found(options: TuneOptions, searches: Mapping[str, _Search]) -> dict[str, Any]:
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


def _tuned(options: TuneOptions, searches: Mapping[str, _Search]) -> str:
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
