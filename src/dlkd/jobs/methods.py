"""``dlkd methods``: what there is to distil with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.methods import METHODS, LossOptions, Method, parse_method, resolve_loss

_LEAD = """\
# Methods

Made by `dlkd methods --format markdown`. What is distilled is w_ce·CE + w_kd·(the formula); each default is an option
(`--loss.beta 2`). `z_t`, `z_s` are the logits of teacher and student, `p_t`, `p_s` their softmax.

Methods combine where they depart in different choices: `--method dlkd+dkd+zscore` is DKD on z-scores at the
temperatures of DLKD. What does not go together is refused with the reason.
"""
_NOTES = """
## Where we differ from the published code, and why

- **No logarithm of a softmax** anywhere: DKD and RLD take log p and log(1 − p) by log-sum-exp, so that they stay
  finite at any margin (the published ones overflow in fp32 at about 100·T).
- **LSKD, NormKD** divide the variance by C as their papers say; `--loss.unbiased true` divides by C − 1 as their code.
- **DTKD** measures the largest logit from the mean of its row: with raw maxima a constant added to the logits changes
  the loss, and temperatures can be negative. `--loss.centred false` is the published form.
- **DIST** is the exact correlation; its code adds 1e-8 to the product of norms, which is visible at 1,000 classes.
- **EA-KD** divides the student's entropy by log C as the paper says; `--loss.entropy_bound 100` is its code.
- **CTKD** is the one temperature for all samples; the one of each sample was published as a snippet only.
- **Soft labels** (mixup, cutmix): a loss of one label is carried over as the mean over the labels by their shares.

With their conventions switched on, KD, DKD, NKD, DIST, RLD, LSKD, WSLD, TTM, WTTM, NormKD, DTKD, EA-KD and R2KD's value
loss equal the official implementations on float64 inputs to 1e-9 (EA-KD, whose code adds 1e-10 inside a logarithm, to
1e-8): `tests/losses/official.json` has the numbers with repositories and commits.
"""


@dataclass(frozen=True)
class MethodsOptions:
    """List the methods with formula, defaults and paper.

    Attributes:
        name: only this method, or the settings of a composition such as dlkd+dkd+zscore.
        format: a table for people, or the page docs/methods.md.
    """

    name: str | None = None
    format: Literal["table", "markdown"] = "table"


def methods(options: MethodsOptions) -> None:
    """Print them.

    Raises:
        UserError: an unknown method, or methods that do not go together.
    """
    names = list(METHODS) if options.name is None else parse_method(options.name)
    if options.format == "markdown":
        print(markdown(names), end="")
        return
    table = Table("method", "formula", "defaults", "source")
    for name in names:
        method = METHODS[name]
        table.add_row(*(Text(cell) for cell in (name, method.formula, _defaults(method), method.reference)))
    Console().print(table)
    if len(names) > 1 and options.name is not None:
        settings = resolve_loss(options.name, LossOptions())
        print(f"{options.name}: {', '.join(f'{k} {v}' for k, v in settings.items())}")


def markdown(names: list[str]) -> str:
    """The page docs/methods.md."""
    rows = [
        f"| `{name}` | {_cell(METHODS[name].formula)} | {_defaults(METHODS[name])} | {METHODS[name].reference} |"
        for name in names
    ]
    head = "| method | formula | defaults | source |\n|---|---|---|---|\n"
    return f"{_LEAD}\n{head}" + "\n".join(rows) + "\n" + _NOTES


def _defaults(method: Method) -> str:
    return ", ".join(f"{key} {'log C' if value is None else value}" for key, value in method.defaults.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
