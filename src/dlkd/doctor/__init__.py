"""Is everything here that a run needs? Versions, devices, places to write to, and a small run."""

from dlkd.doctor.job import DoctorOptions, doctor

__all__ = ["DoctorOptions", "doctor"]
