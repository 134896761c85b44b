"""Published versions: publish, resolve, alias, verify, collect. No TensorFlow."""

from bmp.registry.aliases import UNSET
from bmp.registry.registry import Registry
from bmp.registry.version import Version

__all__ = ["UNSET", "Registry", "Version"]
