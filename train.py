"""python train.py [RECIPE] [--set section.key=value …] [--run-dir DIR]: one whole run, the same as `bmp run`."""

import sys

from bmp.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]], prog_name="bmp")
