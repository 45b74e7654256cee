"""The command line: typed options in, one clear line out when something is wrong."""

from dlkd.cli.main import main

__all__ = ["main"]
