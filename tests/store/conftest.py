"""What the tests of the store share lies in ``store_toys``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
