"""A table of text as Markdown, LaTeX or CSV. Cells are plain text: readers see each as it was given."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_RULE = {"l": "---", "c": ":-:", "r": "--:"}
_MARKDOWN = re.compile(r"[\\`*|<\[~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
"""What Markdown would take for markup; not an underscore within a word, nor an ampersand alone."""
_LATEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    # In the default font encoding these three are other characters.
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    # At the start of a row they would be options of the \\ or the rule before it.
    | {"[": "{[}", "*": "{*}"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "→": r"$\rightarrow$", "≥": r"$\geq$"}
    | {"≤": r"$\leq$", "²": "$^2$", "√": r"$\surd$", "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$"}
    | {"λ": r"$\lambda$", "σ": r"$\sigma$", "τ": r"$\tau$"}
)


def markdown(columns: Sequence[str], rows: Rows, align: str | None = None) -> str:
    """A table of GitHub's Markdown, ending in a newline. A new line within a cell becomes ``<br>``.

    Args:
        columns: names, ``[C]``.
        rows: cells, ``[R][C]``.
        align: one of l, c, r for each column; else the first to the left and the others to the right.

    Raises:
        ValueError: no columns, a row of another length, or an ``align`` that does not fit.
    """
    sides = _aligned(columns, rows, align)
    lines = [[_markdown_cell(c) for c in columns], [_RULE[side] for side in sides]]
    lines += [[_markdown_cell(c) for c in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(columns: Sequence[str], rows: Rows, align: str | None = None) -> str:
    r"""A ``tabular`` with the rules of booktabs (``\usepackage{booktabs}``), ending in a newline. A new line within a
    cell becomes a space; signs such as ± and − and the field's Greek letters go to mathematics.

    Args and errors: see :func:`markdown`.
    """
    sides = _aligned(columns, rows, align)
    head, *body = (" & ".join(map(_latex_cell, line)) + r" \\" for line in (columns, *rows))
    lines = (rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}")
    return "\n".join(lines) + "\n"


def csv_text(columns: Sequence[str], rows: Rows) -> str:
    """Lines of comma-separated cells, quoted where they must be.

    Raises:
        ValueError: no columns, or a row of another length.
    """
    _aligned(columns, rows, None)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue()


def _markdown_cell(cell: str) -> str:
    return "<br>".join(_MARKDOWN.sub(r"\\\g<0>", line.strip()) for line in cell.strip().splitlines())


def _latex_cell(cell: str) -> str:
    # Two hyphens would be printed as one dash.
    return re.sub("-(?=-)", "-{}", " ".join(cell.split()).translate(_LATEX))


def _aligned(columns: Sequence[str], rows: Rows, align: str | None) -> str:
    if not columns:
        raise ValueError("expected a table to have columns, but got none")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise ValueError(f"expected row {number} to have {len(columns)} cells, but got {len(row)}")
    sides = "l" + "r" * (len(columns) - 1) if align is None else align
    if len(sides) != len(columns) or not set(sides) <= set(_RULE):
        raise ValueError(f"expected align to have one of l, c, r for each of {len(columns)} columns, but got {sides!r}")
    return sides
