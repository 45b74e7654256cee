"""The frozen teacher and its probes."""

from dlkd.teacher.frozen import FrozenTeacher, TeacherOutput

__all__ = ["FrozenTeacher", "TeacherOutput"]
