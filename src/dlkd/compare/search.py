"""The search for the settings of one method: as they stand, those that somebody names, those that Optuna draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from dlkd.compare.collect import ABOUT
from dlkd.compare.found import read_cells, reason_of
from dlkd.compare.study import Cell
from dlkd.compare.work import failure
from dlkd.errors import UserError
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
FARTHEST = 1e15
"""Nothing is looked for beyond it."""
DIGITS = 3
"""Significant digits of a setting that is drawn: more would be of no effect, and nobody wants to read them."""


class Search:
    """Of one method.

    Args:
        method: its name in the study.
        page: its options as they stand.
        run: the options of a run of the method with other settings.
        space: option → where to look.
        tries: settings that are tried before any is drawn.
        draw: seed.
        before: settings that an earlier start has asked for, trial by trial; they are asked for again.

    Raises:
        UserError: a space or tries that are none; a value in them that no run would take; Optuna is not there.
    """

    def __init__(
        self,
        method: str,
        page: Page,
        run: Callable[[Page], DistillOptions],
        space: Mapping[str, Any],
        tries: Sequence[Mapping[str, Any]],
        draw: int,
        before: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.page, self._before = page, before
        self._study = _new_study(draw)  # first, since it says so where Optuna is missing
        where, as_it_stands = nested_names(space), run(page)
        first = {name: _value(as_it_stands, method, name) for name in where}
        self.space = {name: _distribution(method, name, where[name], first[name]) for name in where}
        given = [first, *(first | nested_names(settings) for settings in tries)] if where else []
        for settings in given:
            _check_try(method, settings, self.space)
            self._study.enqueue_trial(settings)
        for name, distribution in self.space.items():
            for value in _ends(distribution):  # what is drawn hours from now is to be an option of a run
                run(merged(page, nested({name: value})))
        self._given = len(given)
        self._asked: optuna.Trial | None = None
        self.trials: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        """Versions and machine of what was run."""

    def ask(self, number: int) -> Page | None:
        """The options of the next trial; None where there is nothing left to try."""
        if number and not self.space:
            return None
        self._asked = self._study.ask(self.space)
        settings = self._wanted(number)
        if number < len(self._before) and self._before[number].keys() == settings.keys():
            settings = self._before[number]
        self.trials.append({"settings": settings})
        return merged(self.page, nested(settings))

    def _wanted(self, number: int) -> dict[str, Any]:
        """Of the study: what somebody gave as it is, what is drawn with few digits."""
        assert self._asked is not None
        return {name: v if number < self._given else _rounded(v) for name, v in self._asked.params.items()}

    def tell(self, cells: Sequence[Cell]) -> None:
        """What the trial came to."""
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
        self._tell(trial)

    def _tell(self, trial: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState, create_trial

        assert self._asked is not None
        value = trial["mean"]
        if value is not None and trial["settings"] == self._wanted(len(self.trials) - 1):
            self._study.tell(self._asked, value)
            return
        self._study.tell(self._asked, state=TrialState.FAIL)
        if value is not None:  # of settings that an earlier start had asked for, and the sampler now would not
            params = {name: _within(self.space[name], v) for name, v in trial["settings"].items()}
            self._study.add_trial(create_trial(params=params, distributions=self.space, value=value))

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
        if not all(choice is None or isinstance(choice, (str, bool, int, float)) for choice in where):
            raise UserError(f"expected words or numbers in --space of {method}, {name}, but got {where!r:.80}")
        return CategoricalDistribution(where)
    numbers = where.values() if isinstance(where, dict) and where.keys() == {"low", "high"} else ()
    if not numbers or not all(isinstance(n, (int, float)) and abs(n) <= FARTHEST for n in numbers):
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


def _ends(distribution: Any) -> list[Any]:
    return list(distribution.choices) if hasattr(distribution, "choices") else [distribution.low, distribution.high]


def _within(distribution: Any, value: Any) -> Any:
    """A rounded value may lie a digit beyond the end."""
    if hasattr(distribution, "choices"):
        return value
    return min(max(value, distribution.low), distribution.high)


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
