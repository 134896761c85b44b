"""The description of a Keras network, read as data: every class, function and word in it is looked up in `allowed`.

What comes out is plain: class names and arguments, without the modules and registered names by which Keras would
import what a file asks for, and without `compile_config` and `build_config`, which nothing here needs.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from bmp.artifact.guard.allowed import (
    DTYPES,
    FUNCTIONS,
    KERAS_3_FUNCTIONS,
    LAYERS,
    OWN_LAYERS,
    PARTS,
    POLICIES,
    REASONS,
)
from bmp.artifact.guard.limits import Limits
from bmp.errors import ArtifactError, UnsafeError, suggest

Plain = dict[str, Any]

_MODULES = re.compile(
    r"(tf_)?keras(\.src)?(\.(engine|layers|models|initializers|regularizers|constraints|activations|mixed_precision"
    r"|dtype_policies)(\.\w+)*)?"
)
_KERAS_3_MODULES = re.compile(r"keras\.src\.ops\.(numpy|nn|core)")
_LAYER_PLACES = ("", "layers", "layer", "backward_layer", "cell", "cells")
_AS_ACTIVATION = frozenset(("ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "ThresholdedReLU"))
_LOOPS = {"classes": 10_000, "depth": 10_000}
"""Arguments of bmp's own layers that they count to while they are built."""
_BESIDE = ("name", "inbound_nodes", "shared_object_id")
"""What stands beside class name and arguments of a layer and is kept."""


def read_json(content: bytes | str, what: str, limits: Limits) -> Any:
    """Reads JSON of bounded size and depth, in which no name stands twice.

    Args:
        content: To read.
        what: It is, for the message.
        limits: On size and depth.

    Raises:
        ArtifactError: It is no JSON.
        UnsafeError: It is too large or nests too deep, or a name stands twice.
    """
    if len(content) > limits.config_bytes:
        raise UnsafeError(f"{what} has {len(content):,} bytes; up to {limits.config_bytes:,} are read.")
    try:
        return json.loads(content, object_pairs_hook=lambda pairs: _collect(pairs, what))
    except RecursionError as error:
        raise UnsafeError(f"{what} nests deeper than {limits.depth} levels.") from error
    except UnsafeError:
        raise
    except ValueError as error:  # also of bytes that are no text
        raise ArtifactError(f"{what} is no JSON: {error}.") from error


def _collect(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnsafeError(f"{what} says the same thing twice, so that two readers could take it for two things.")
    return found


def check_config(config: Any, limits: Limits = Limits(), *, own: Collection[str] = ()) -> None:  # noqa: B008
    """Checks that the description of a network names nothing but what computes numbers; see `to_plain`."""
    to_plain(config, limits, own=own)


def to_plain(config: Any, limits: Limits = Limits(), *, own: Collection[str] = ()) -> Plain:  # noqa: B008
    """Returns the plain description of a network: `class_name`, `config`, and what joins layers.

    Args:
        config: As JSON gives it, in the style of `.h5` or of `.keras`.
        limits: On depth and number of values.
        own: Registered names of layers that are allowed beside bmp's and Keras' own.

    Raises:
        ArtifactError: It is no description of a network.
        UnsafeError: It names a class, function, module or word that is not allowed.
    """
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ArtifactError("The description of the network names no class.", expected="class_name and config")
    plain = _Reader(limits, frozenset(own)).read(config, _Place())
    assert isinstance(plain, dict)
    if plain["class_name"] not in ("Functional", "Model", "Sequential"):
        raise UnsafeError(
            f"The network is a {_show(plain['class_name'])}; only functional and sequential networks can be rebuilt "
            "from their description.",
            expected="Functional or Sequential",
            received=_show(plain["class_name"]),
        )
    return plain


@dataclass(frozen=True)
class _Place:
    """Where in the description something stands: in which layer, under which name, how deep."""

    layer: str = ""
    key: str = ""
    depth: int = 0

    def __str__(self) -> str:
        return f"The layer {_show(self.layer)}" if self.layer else "The network"


class _Reader:
    """Walks a description once and copies what is allowed."""

    def __init__(self, limits: Limits, own: frozenset[str]) -> None:
        self._limits = limits
        self._own = own
        self._count = 0

    def read(self, value: Any, place: _Place) -> Any:
        self._count += 1
        if self._count > self._limits.objects or place.depth > self._limits.depth:
            raise UnsafeError(
                f"The description of the network holds more than {self._limits.objects:,} values, or nests deeper than "
                f"{self._limits.depth} levels."
            )
        inside = replace(place, depth=place.depth + 1)
        if isinstance(value, dict):
            return self._read_class(value, inside) if "class_name" in value else self._read_items(value, inside)
        if isinstance(value, list):
            return [self.read(item, inside) for item in value]
        if isinstance(value, str):
            self._check_word(value, place)
        return value

    def _read_items(self, items: dict[str, Any], place: _Place) -> dict[str, Any]:
        return {key: self.read(value, replace(place, key=key)) for key, value in items.items()}

    def _check_word(self, word: str, place: _Place) -> None:
        if place.key in _LAYER_PLACES[1:]:  # Keras would make a layer of the class of that name
            raise _refuse(place, f"has the word {_show(word)} in the place of a layer", word, ())
        kind = place.key.rpartition("_")[2]
        known = DTYPES if kind == "dtype" else PARTS.get(kind)
        if known is not None and word not in known:
            raise _refuse(place, f"names the {kind} {_show(word)}", word, known)

    def _read_class(self, value: dict[str, Any], place: _Place) -> Any:
        name = value["class_name"]
        if not isinstance(name, str):
            raise UnsafeError(f"{place} names a class that is no word.")
        if name in _DATA:
            return _DATA[name](self, value, place)
        kind = place.key.rpartition("_")[2]
        if kind in PARTS:
            return self._read_part(name, kind, value, place)
        if place.key not in _LAYER_PLACES:
            raise _refuse(place, f"names the class {_show(name)} in '{_show(place.key)}'", name, ())
        return self._read_layer(name, value, place)

    def _read_part(self, name: str, kind: str, value: dict[str, Any], place: _Place) -> Plain:
        known = _AS_ACTIVATION if kind == "activation" else PARTS[kind]
        self._check_origin(value, name, place)
        if name not in known:
            raise _refuse(place, f"names the {kind} {_show(name)}", name, known)
        return {"class_name": name, "config": self._read_arguments(value, place)}

    def _read_layer(self, name: str, value: dict[str, Any], place: _Place) -> Plain:
        config = value.get("config")
        place = replace(place, layer=_find_name(value, config) or place.layer or name)
        known = self._find_layer(name, value, place)
        beside = {key: self.read(value[key], replace(place, key=key)) for key in _BESIDE if key in value}
        plain = {"class_name": known, "config": self._read_arguments(value, place), **beside}
        _check_name(plain, place)
        _check_function(known, plain["config"], place)
        return plain

    def _find_layer(self, name: str, value: dict[str, Any], place: _Place) -> str:
        """Returns the name of a layer in the table of those that are rebuilt."""
        registered = value.get("registered_name") or name
        own, module = str(registered).removeprefix("bmp>"), str(value.get("module") or "")
        if registered in self._own:
            return str(registered)
        if str(registered).startswith("bmp>") and own in OWN_LAYERS and module in ("", *_own_modules(module)):
            return f"bmp>{own}"
        if name in KERAS_3_FUNCTIONS and _KERAS_3_MODULES.fullmatch(module) and registered == name:
            return name
        if name not in LAYERS:
            raise _refuse(place, f"is a {_show(name)}", name, LAYERS)
        self._check_origin(value, name, place)
        return name

    def _check_origin(self, value: dict[str, Any], name: str, place: _Place) -> None:
        module, registered = value.get("module"), value.get("registered_name")
        if module is not None and not (isinstance(module, str) and _MODULES.fullmatch(module)):
            raise _refuse(place, f"takes {_show(name)} from the module {_show(module)}", name, ())
        if registered not in (None, name):
            raise _refuse(place, f"takes {_show(name)} by the name {_show(registered)}", name, ())

    def _read_arguments(self, value: dict[str, Any], place: _Place) -> dict[str, Any]:
        config = value.get("config")
        if config is None:
            return {}
        if not isinstance(config, dict) or "class_name" in config:
            raise ArtifactError(f"{place} has no arguments by name; networks of Keras 2.2 and later have.")
        return self._read_items(config, place)

    def _read_policy(self, value: dict[str, Any], place: _Place) -> str:
        name = self._read_arguments(value, place).get("name")
        if place.key != "dtype" or name not in POLICIES:
            raise _refuse(place, f"names the precision {_show(name)}", str(name), POLICIES)
        self._check_origin(value, value["class_name"], place)
        return str(name)

    def _read_function(self, value: dict[str, Any], place: _Place) -> str:
        """Reads `{"class_name": "function", "config": "relu"}`, which stands for the word."""
        name, kind = value.get("config"), place.key.rpartition("_")[2]
        known = PARTS.get(kind, frozenset())
        module = value.get("module")
        if not isinstance(name, str) or name not in known:
            raise _refuse(place, f"names the function {_show(name)}", str(name), known)
        if module not in (None, "builtins") and not _MODULES.fullmatch(str(module)):
            raise _refuse(place, f"takes {_show(name)} from the module {_show(module)}", name, ())
        return name

    def _read_tuple(self, value: dict[str, Any], place: _Place) -> tuple[Any, ...]:
        return tuple(self._read_list(value.get("items"), place))

    def _read_shape(self, value: dict[str, Any], place: _Place) -> list[Any]:
        return self._read_list(value.get("items"), place)

    def _read_list(self, items: Any, place: _Place) -> list[Any]:
        if not isinstance(items, list):
            raise ArtifactError(f"{place} has a list without items.")
        return [self.read(item, place) for item in items]

    def _read_array(self, value: dict[str, Any], place: _Place) -> Any:
        """Reads an array of numbers, which stands for nested lists."""
        arguments = self._read_arguments(value, place)
        if arguments.get("dtype") not in DTYPES or set(arguments) != {"dtype", "value"}:
            raise _refuse(place, f"holds an array of {_show(arguments.get('dtype'))}", "", ())
        return arguments["value"]

    def _read_symbol(self, value: dict[str, Any], place: _Place) -> Plain:
        """Reads `__keras_tensor__`, by which Keras 3 says which tensor goes where; Keras 2 has lists for it."""
        return {"class_name": value["class_name"], "config": self._read_arguments(value, place)}


_DATA: dict[str, Callable[[_Reader, dict[str, Any], _Place], Any]] = {
    "Policy": _Reader._read_policy,
    "DTypePolicy": _Reader._read_policy,
    "function": _Reader._read_function,
    "__tuple__": _Reader._read_tuple,
    "TensorShape": _Reader._read_shape,
    "__ellipsis__": lambda reader, value, place: ...,
    "__numpy__": _Reader._read_array,
    "__tensor__": _Reader._read_array,
    "__keras_tensor__": _Reader._read_symbol,
}
"""What is no class at all, but data that JSON has no form of its own for."""


def _own_modules(module: str) -> tuple[str, ...]:
    return (module,) if re.fullmatch(r"bmp\.models\.layers(\.\w+)?", module) else ()


def _find_name(value: dict[str, Any], config: Any) -> str:
    name = config.get("name") if isinstance(config, dict) else None
    return str(name or value.get("name") or "")


def _check_name(layer: Plain, place: _Place) -> None:
    """Checks the name of a layer, which becomes a path in the file of weights."""
    names = [name for name in (layer.get("name"), layer["config"].get("name")) if name is not None]
    for name in names:
        parts = name.split("/") if isinstance(name, str) else [""]
        plain = isinstance(name, str) and name.isprintable() and "\\" not in name and len(name) <= 512
        if not plain or any(part in ("", ".", "..") for part in parts):
            raise UnsafeError(f"{place} has a name that leads elsewhere when it becomes a path; rename the layer.")
    if len(set(names)) > 1:
        raise ArtifactError(f"{place} has two names: {_show(names[0])} and {_show(names[1])}.")


def _check_function(name: str, config: dict[str, Any], place: _Place) -> None:
    function = config.get("function")
    if name in ("TFOpLambda", "SlicingOpLambda") and function not in FUNCTIONS:
        raise _refuse(place, f"calls tf.{_show(function)}", str(function), FUNCTIONS)
    if name.startswith("bmp>"):
        for key, most in _LOOPS.items():
            if isinstance(config.get(key), int) and config[key] > most:
                raise UnsafeError(f"{place} counts to {config[key]:,} while it is built; {most:,} is the most.")


def _refuse(place: _Place, does: str, name: str, known: Iterable[str]) -> UnsafeError:
    reason = REASONS.get(name.rpartition(">")[2], "")
    why = f", which {reason}" if reason else ", which is not among what is rebuilt from a file"
    guess = "" if reason else suggest(name, known)
    return UnsafeError(
        f"{place} {does}{why}.{guess} A file of your own can be read with --trust.",
        expected="layers of Keras 2 that only compute",
        received=_show(name),
    )


def _show(value: Any) -> str:
    """Returns something out of a file as it may stand in a message: short, and without control characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 80 else f"{text[:77]}..."
