"""Pages of options put together before they are typed."""

from __future__ import annotations

from typing import Any

Page = dict[str, Any]


def merged(*pages: Page) -> Page:
    """One page of several: groups are joined, and of two values the later one counts."""
    found: Page = {}
    for page in pages:
        for key, value in page.items():
            old = found.get(key)
            found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def nested(page: Page) -> Page:
    """``{"data.root": x}`` as ``{"data": {"root": x}}``, at any depth."""
    found: Page = {}
    for key, value in page.items():
        *groups, last = str(key).split(".")
        inner: Page = {last: nested(value) if isinstance(value, dict) else value}
        for group in reversed(groups):
            inner = {group: inner}
        found = merged(found, inner)
    return found
