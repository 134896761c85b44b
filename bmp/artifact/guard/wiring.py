"""How the layers of a functional network are joined, checked before Keras follows it: Keras can turn in circles."""

from collections.abc import Iterator, Mapping
from typing import Any

from bmp.errors import ArtifactError

_MAX_LAYERS = 10_000
_CONSTANT = "_CONSTANT_VALUE"
Call = tuple[str, int]
"""A layer by name, and which of its calls."""


def check_wiring(config: Mapping[str, Any], layers: Mapping[str, Any]) -> None:
    """Checks that every call of a layer takes what another one has given.

    Args:
        config: Of a functional network, plain.
        layers: By name.

    Raises:
        ArtifactError: Two layers have one name, a call refers to one that there is not, or calls wait for each other.
    """
    names = [layer.get("name") for layer in config["layers"]]
    if len(set(names)) < len(names) or len(names) > _MAX_LAYERS:
        raise ArtifactError(f"The network has two layers of one name, or more than {_MAX_LAYERS:,} layers.")
    waiting = {
        name: [list(_needs(node)) for node in layer["inbound_nodes"]]
        for name, layer in zip(names, config["layers"], strict=True)
    }
    first = {name: _count_first(layer) for name, layer in layers.items()}
    _run(waiting, first, {name for name, layer in layers.items() if type(layer).__name__ == "InputLayer"})


def _run(waiting: dict[str, list[list[Call]]], first: Mapping[str, int], inputs: set[str]) -> None:
    """Makes all calls that can be made, again and again, as Keras does."""
    done = dict.fromkeys(waiting, 0)

    def is_ready(call: Call) -> bool:
        name, number = call
        if name not in done:
            raise ArtifactError(f"The network takes something from the layer '{name}', which it does not have.")
        return name in inputs or first[name] <= number < first[name] + done[name]

    while any(done[name] < len(calls) for name, calls in waiting.items()):
        before = sum(done.values())
        for name, calls in waiting.items():
            while done[name] < len(calls) and all(map(is_ready, calls[done[name]])):
                done[name] += 1
        if sum(done.values()) == before:
            stuck = next(name for name, calls in waiting.items() if done[name] < len(calls))
            raise ArtifactError(f"The network turns in a circle: the layer '{stuck}' waits for what comes after it.")


def _count_first(layer: Any) -> int:
    """Returns the number of the first call that counts: a network with inputs has been called once already."""
    from tf_keras.src.engine.functional import _should_skip_first_node

    return int(_should_skip_first_node(layer))


def _needs(node: Any) -> Iterator[Call]:
    """Yields what a call takes: `[name, call, output]` anywhere in it, `[name, call, output, more]` with more of it."""
    if isinstance(node, dict):
        node = list(node.values())
    if not isinstance(node, (list, tuple)):
        return
    if isinstance(node, list) and len(node) in (3, 4) and isinstance(node[0], str):
        if node[0] != _CONSTANT:
            if not all(isinstance(number, int) for number in node[1:3]):
                raise ArtifactError(
                    f"The network takes something from the layer '{node[0]}' in a way that is not known."
                )
            yield node[0], node[1]
        node = node[3:]
    for item in node:
        yield from _needs(item)
