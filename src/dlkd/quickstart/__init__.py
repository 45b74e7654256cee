"""See DLKD work in minutes: digits, 40 % wrong labels, a clean and a noisy teacher."""

from dlkd.quickstart.experiment import Quickstart, run

__all__ = ["Quickstart", "run"]
