"""`python -m bmp`: the bmp command."""

from bmp.cli import main

main(prog_name="bmp")
