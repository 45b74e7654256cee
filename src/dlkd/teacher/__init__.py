"""The frozen teacher and its probes; several teachers as one, and teachers of other classes."""

from dlkd.teacher.classes import SelectClasses, class_index, read_class_names
from dlkd.teacher.ensemble import Average, AveragedTeacher
from dlkd.teacher.folding import Folding, fold_batch_norms
from dlkd.teacher.frozen import FrozenTeacher, TeacherOutput

__all__ = [
    "Average",
    "AveragedTeacher",
    "Folding",
    "FrozenTeacher",
    "SelectClasses",
    "TeacherOutput",
    "class_index",
    "fold_batch_norms",
    "read_class_names",
]
