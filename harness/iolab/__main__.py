"""Entry point of `python -m iolab`."""

from iolab.cli import main

main()
