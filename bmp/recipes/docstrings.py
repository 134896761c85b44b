"""Texts that every installation has: what numpy, scipy and scikit-learn say of their own functions."""

import importlib
import inspect
import re

import numpy as np

from bmp.data.source import Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.transforms import Field

_MODULES = {
    "numpy": ("numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.polynomial", "numpy.testing"),
    "scipy": (
        *("scipy.linalg", "scipy.stats", "scipy.signal", "scipy.optimize", "scipy.sparse", "scipy.special"),
        *("scipy.ndimage", "scipy.interpolate", "scipy.integrate", "scipy.spatial", "scipy.fft", "scipy.cluster"),
    ),
    "scikit-learn": tuple(
        f"sklearn.{name}"
        for name in (
            *("linear_model", "ensemble", "tree", "svm", "cluster", "decomposition", "preprocessing", "metrics"),
            *("model_selection", "neighbors", "datasets", "feature_extraction.text", "pipeline", "manifold"),
            *("mixture", "naive_bayes", "impute", "inspection", "covariance", "feature_selection"),
        )
    ),
}
_GIVEAWAYS = re.compile(r"\b(numpy|np|scipy|sp|scikits?|scikit-learn|sklearn)\b", re.IGNORECASE)


def load_docstrings() -> Source:
    """Returns the opening of each public function's, class's and method's docstring, its package as the class."""
    texts: dict[str, str] = {}  # text to package; a text that two packages share is left out
    for package, modules in _MODULES.items():
        for text in sorted({text for module in modules for text in _read(importlib.import_module(module))}):
            texts[text] = "" if texts.get(text, package) != package else package
    kept = [(text, package) for text, package in texts.items() if package]
    labels = tuple(_MODULES)
    return ArraySource(
        {"text": np.array([text for text, _ in kept], dtype=object)},
        (Field("text", "text"),),
        np.array([labels.index(package) for _, package in kept]),
        Target("class", labels),
        where=lambda number: f"docstring {number} ({kept[number][0][:40]}…)",
    )


def _read(module: object) -> set[str]:
    """Returns the docstrings of a module's public functions, classes and their methods, masked and cut."""
    things = [getattr(module, name) for name in dir(module) if not name.startswith("_")]
    methods = [
        member for thing in things if inspect.isclass(thing) for key, member in vars(thing).items() if key[0] != "_"
    ]
    found = (inspect.getdoc(thing) for thing in [*things, *methods] if callable(thing) and not _is_builtin(thing))
    return {_GIVEAWAYS.sub("it", text)[:600] for text in found if text and len(text) >= 80}


def _is_builtin(thing: object) -> bool:
    return getattr(thing, "__module__", None) in ("builtins", "typing", "abc")
