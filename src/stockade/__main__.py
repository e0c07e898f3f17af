"""``python -m stockade``: the command line."""

from stockade.cli.main import main

main()
