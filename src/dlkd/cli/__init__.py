"""The command line: typed options in, one clear line out when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from dlkd.errors import UserError
from dlkd.quickstart import Quickstart, run


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``dlkd``; bad input ends with one line on standard error and exit code 2."""
    parser = ArgumentParser(
        prog="dlkd", allow_abbrev=False, description="Difficulty level-based knowledge distillation."
    )
    commands = parser.add_subcommands(required=True)
    quickstart = ArgumentParser(
        allow_abbrev=False, description="See DLKD work on digits with wrong labels; needs no download."
    )
    quickstart.add_class_arguments(Quickstart, skip={"overwrite"})
    quickstart.add_argument("--overwrite", action="store_true", help="replace an earlier run in that folder")
    commands.add_subcommand("quickstart", quickstart)
    options = parser.parse_args(arguments)
    try:
        run(Quickstart(**options.quickstart.as_dict()))
    except UserError as error:
        print(f"dlkd: error: {error}", file=sys.stderr)
        sys.exit(2)
