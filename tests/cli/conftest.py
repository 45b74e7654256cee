"""What the tests of recipes share lies in ``recipe_heads``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
