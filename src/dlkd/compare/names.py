"""What a study may be called, and where it may lie: names that become folders, seeds, and folders of others."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from dlkd.errors import UserError
from dlkd.regular import read_regular
from dlkd.run_folder import CARD_BYTES, MARKER, RESULTS, made_by

ONE = "all"
"""Name of the only condition or pair where none is given."""
MANY = 10_000
"""More seeds are a slip of the keyboard."""


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise UserError where they are none, or the same one is there twice."""
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**63 for seed in seeds):
        raise UserError(f"expected --seeds to be different seeds in [0, 2⁶³), but got {seeds!s:.80}")


def check_folder(out: Path, command: str) -> None:
    """Refuse a folder that another command has made: its files have the same names.

    Raises:
        UserError: it holds a run, or what another command than ``command`` found.
    """
    found = made_by(out) or ("a run" if (out / MARKER).exists() else command)
    if (out / RESULTS).is_file() and found == command:
        try:
            found = str(json.loads(read_regular(out / RESULTS, CARD_BYTES))["command"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            found = "something else"
    if found != command:
        raise UserError(
            f"expected --out to be new or a folder of dlkd {command}, but {out} is that of {found}; give another --out"
        )


def check_name(what: str, name: object, *, one: bool = False) -> None:
    """A name that becomes a folder.

    Args:
        what: is named.
        name: by the user, or in a file.
        one: may it be that which stands for there being only one?

    Raises:
        UserError: it would lead elsewhere, or say something else.
    """
    if not isinstance(name, str):  # as YAML reads 0.4, no and 2024-01-01
        raise UserError(f"expected text as a name in {what}, but got {name}; put it in quotes")
    if not re.fullmatch(r"[\w+.\-]{1,60}", name) or name.startswith("."):
        raise UserError(f"expected up to 60 letters, digits, _ + . or - as a name in {what}, but got {name!r:.80}")
    if name == ONE and not one:
        raise UserError(f"expected another name than {ONE} in {what}: it stands for there being one")
