"""One look before hours are spent."""

from dlkd.preflight.checks import preflight
from dlkd.preflight.findings import Finding, Preflight

__all__ = ["Finding", "Preflight", "preflight"]
