"""What loading a model file may do: files from anywhere are looked through before anything that trusts them reads them.

Names, links, sizes, classes and operations are checked against tables of what is allowed; nothing in a file is run,
imported or written. What a check cannot see is a flaw in the libraries that read the formats: for that, a file from
elsewhere is read in a process of its own, which can reach nothing.
"""

from bmp.artifact.guard.builder import list_own_layers
from bmp.artifact.guard.config import check_config
from bmp.artifact.guard.hdf5 import check_h5
from bmp.artifact.guard.keras_zip import check_keras
from bmp.artifact.guard.limits import Limits
from bmp.artifact.guard.litert import check_litert
from bmp.artifact.guard.names import check_member_names
from bmp.artifact.guard.rebuild import read_keras_version, rebuild_model
from bmp.artifact.guard.saved_model import check_saved_model

__all__ = [
    "Limits",
    "check_config",
    "check_h5",
    "check_keras",
    "check_litert",
    "check_member_names",
    "check_saved_model",
    "list_own_layers",
    "read_keras_version",
    "rebuild_model",
]
