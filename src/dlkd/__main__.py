"""``python -m dlkd`` is ``dlkd``."""

from dlkd.cli import main

main()
