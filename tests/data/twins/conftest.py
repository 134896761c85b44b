import sys
from pathlib import Path

# The twins are held to the same cases as the steps themselves.
sys.path.append(str(Path(__file__).parents[2] / "transforms"))
