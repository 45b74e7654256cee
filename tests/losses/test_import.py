"""A loss in somebody's loop must not drag a trainer in."""

import subprocess
import sys


def test_losses_need_torch_only():
    code = (
        "import sys, torch; before = {m.split('.')[0] for m in sys.modules};"
        "import dlkd.losses, dlkd; dlkd.kd_loss, dlkd.DLKDLoss, dlkd.prune_teacher;"
        "after = {m.split('.')[0] for m in sys.modules}; print(sorted(after - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['dlkd']"
