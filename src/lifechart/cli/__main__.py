"""`python -m lifechart.cli` is the command `lifechart`."""

from lifechart.cli import main

main()
