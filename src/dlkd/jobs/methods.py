"""``dlkd methods``: what there is to distil with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.methods import METHODS, LossOptions, Method, find_method, parse_method, resolve_loss

_LEAD = """\
# Methods

Made by `dlkd methods --format markdown`. What is distilled is w_ce·CE + w_kd·(the formula); each default is an option
(`--loss.beta 2`). z_t, z_s and z_p are the logits of teacher, student and probe, p their softmax, y the label, T a
temperature.

Methods combine where they depart in different choices: `--method dlkd+dkd+zscore` is DKD on z-scores (another name of
lskd) at the temperatures of DLKD. Settings come from the parts, and `dlkd methods --name dlkd+dkd+zscore` shows them
before you train. What does not go together is refused with the reason.

Warm-ups (`warmup_epochs` 20 of dkd, dtkd, rld) and ramps (`ramp_epochs` 10 of ctkd) are those of published runs of 240
epochs: in a short run shorten them (`--loss.warmup_epochs 1`), or the method never gets its full weight.

fitnet, at and rkd compare inner layers, f_t and f_s: w_feature·(their formula) is added to w_ce·CE, or to whatever they
are combined with (`--method dlkd+rkd`). `--feature.student_layers layer2 --feature.teacher_layers blocks.5` names the
layers; student and teacher may be of different kinds.
"""
_NOTES = """
## What holds for all

- **No logarithm of a softmax** anywhere: every loss is finite, with a finite gradient, for logits of ±1e4 in fp32 and
  under half-precision autocast.
- **Paper or code.** Where the two differ, the paper is the default and `--loss.variant code` the published code.
- **Soft labels** (mixup, cutmix): a loss of one label is carried over as the mean over the labels by their shares.
- **Checked.** With their conventions switched on, KD, DKD, NKD, MLKD, DIST, RLD, LSKD, WSLD, TTM, WTTM, NormKD, DTKD,
  EA-KD, Energy KD and R2KD's value loss equal the official implementations on float64 inputs to 1e-9 (EA-KD, whose code
  adds 1e-10 inside a logarithm, to 1e-8): `tests/losses/official.json` has the numbers with repositories and commits.
- **Layers.** AT and RKD (also without their weights) and FitNet's loss equal the official implementations to 1e-9:
  `tests/losses/official_features.json`. What FitNet learns beside the student is in the checkpoint, not in the student.
- **Function matching** (Beyer et al., CVPR 2022) is KD without labels, with mixup, for long: the recipe
  `--config function-matching`.
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


def methods(options: MethodsOptions) -> dict[str, Any]:
    """Print them, and return them by name; for a composition, its settings as well.

    Raises:
        UserError: an unknown method, or methods that do not go together.
    """
    names = list(METHODS) if options.name is None else parse_method(options.name)
    known = {name: find_method(name) for name in names}
    about: dict[str, Any] = {
        name: {"formula": m.formula, "defaults": dict(m.defaults), "source": m.reference} for name, m in known.items()
    }
    if options.format == "markdown":
        print(markdown(names), end="")
        return about
    table = Table("method", "formula", "defaults", "source")
    for name, method in known.items():
        table.add_row(*(Text(cell) for cell in (name, method.formula, _defaults(method), method.reference)))
    Console().print(table)
    if len(names) > 1 and options.name is not None:
        settings = resolve_loss(options.name, LossOptions())
        print(f"{options.name}: {', '.join(f'{k} {v}' for k, v in settings.items())}")
        about["settings"] = settings
    return about


def markdown(names: list[str]) -> str:
    """The page docs/methods.md."""
    return f"{_LEAD}\n" + "\n".join(_section(name, find_method(name)) for name in names) + _NOTES


def _section(name: str, method: Method) -> str:
    # A fence, since Markdown would eat the backslashes between dollars.
    formula = f"```math\n{method.latex}\n```" if method.latex else method.formula
    source = method.reference[0].upper() + method.reference[1:]
    words = [f"## {name}\n", f"{formula}\n", f"{source}.", f"Defaults: {_defaults(method) or 'those of kd'}."]
    if method.differs:
        words.append(f"\n{method.differs}")
    return "\n".join(words) + "\n"


def _defaults(method: Method) -> str:
    return ", ".join(f"{key} {'log C' if value is None else value}" for key, value in method.defaults.items())
