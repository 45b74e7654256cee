"""Objects of the user's own, named ``package.module:name`` on the command line."""

from __future__ import annotations

import importlib
from typing import Any

from dlkd.errors import first_line


def load_object(name: str, what: str) -> Any:
    """The object ``name`` = ``package.module:attribute``; ``what`` it is to be is said in messages, as ``model``.

    Raises:
        ValueError: in one line, why there is none.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # A module that is there may itself import one that is not.
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"expected a Python module {module_name!r} for the {what} {name!r}, but there is none; "
                "install it or put its folder on PYTHONPATH"
            ) from error
        raise ValueError(f"importing {module_name!r} raised {type(error).__name__}: {first_line(error)}") from error
    if not hasattr(module, attribute):
        raise ValueError(f"expected {attribute!r} in {module_name!r} for the {what} {name!r}, but it has no such name")
    return getattr(module, attribute)
