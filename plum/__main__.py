"""``python -m plum`` is the command ``plum``."""

from plum.cli import main

main()
