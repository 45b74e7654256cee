"""What the preflight found, and which of it stops a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.errors import printable


@dataclass(frozen=True)
class Finding:
    """One line of the preflight."""

    what: str
    value: str
    verdict: Literal["", "note", "stop"] = ""
    advice: str = ""


@dataclass(frozen=True)
class Preflight:
    """Everything that was looked at before the first step."""

    findings: tuple[Finding, ...]
    figures: dict[str, Any]
    """The same for the run card, as numbers."""

    @property
    def stops(self) -> list[Finding]:
        """What speaks against the run."""
        return [f for f in self.findings if f.verdict == "stop"]

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title="Preflight", show_header=False, title_justify="left")
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for finding in self.findings:
            mark = {"": "", "note": "  (!) ", "stop": "  STOP: "}[finding.verdict]
            # Text, not markup: class names are the user's.
            table.add_row(Text(finding.what), Text(printable(f"{finding.value}{mark}{finding.advice}")))
        console.print(table)

    def to_dict(self) -> dict[str, Any]:
        """For the run card."""
        return {**self.figures, "findings": [asdict(f) for f in self.findings]}
