"""``python -m plum`` is the command ``plum``."""

from plum.cli.app import main

main()
