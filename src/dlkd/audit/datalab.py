"""From an audit to cleanlab's Datalab. The way back is ``dlkd clean --issues``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlkd.audit.clean import read_audit
from dlkd.errors import UserError


def to_datalab(folder: str | Path) -> Any:
    """A ``cleanlab.Datalab`` of the audit in ``folder`` that has looked for label issues, by the teacher's
    probabilities.

    .. code-block:: python

        lab = to_datalab("runs/audit")
        lab.get_issues("label").to_csv("issues.csv")  # dlkd clean runs/audit --issues issues.csv

    Classes are numbers, as in ``audit.class_names``: cleanlab sorts names, and columns of probabilities would not fit.

    Raises:
        UserError: cleanlab is not installed, or there is no audit.
    """
    audited = read_audit(Path(folder))
    try:
        from cleanlab import Datalab
    except ImportError as error:
        raise UserError("expected cleanlab for this; pip install 'dlkd[cleanlab]'") from error
    lab = Datalab({"id": audited.ids.tolist(), "label": audited.labels.tolist()}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=audited.teacher.astype("float64"), issue_types={"label": {}})
    return lab
