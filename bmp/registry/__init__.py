"""Published versions: publish, resolve, alias. No TensorFlow."""

from bmp.registry.registry import Registry, Version

__all__ = ["Registry", "Version"]
