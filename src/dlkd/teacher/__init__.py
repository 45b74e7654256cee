"""The frozen teacher and its probes."""

from dlkd.teacher.folding import Folding, fold_batch_norms
from dlkd.teacher.frozen import FrozenTeacher, TeacherOutput

__all__ = ["Folding", "FrozenTeacher", "TeacherOutput", "fold_batch_norms"]
