"""Which channels of a network live and die together: found by following every channel through the layer graph."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.compression.channels.rules import BLOCKED, Call, follow
from bmp.compression.legalise.graph import list_calls
from bmp.errors import ExportError, UnknownNameError, suggest

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Group:
    """Units that the same layers make.

    A unit is what can only be removed as a whole: a channel of a layer, with the channels of other layers that are
    added to it.

    Args:
        name: Of the first layer; of several groups that begin with the same layer, all their layers, joined by `+`.
        layers: Whose kernels make the channels, in the order of the model.
        units: Numbers of the units, int64 `(n,)`.
        obstacle: Why none of them can be removed, a clause; empty if they can.
    """

    name: str
    layers: tuple[str, ...]
    units: np.ndarray
    obstacle: str = ""


@dataclass(frozen=True)
class ChannelMap:
    """Where every unit is.

    Args:
        groups: Of the layers that make channels, in the order of the model.
        entering: By name of a layer: the unit of each channel that it takes, int64 `(C,)`.
        leaving: By name of a layer: the unit of each channel that it returns, int64 `(C,)`.
        size: How many units there are, those of inputs included.
    """

    groups: tuple[Group, ...]
    entering: Mapping[str, np.ndarray]
    leaving: Mapping[str, np.ndarray]
    size: int

    @property
    def free(self) -> tuple[Group, ...]:
        """Groups whose units can be removed."""
        return tuple(group for group in self.groups if not group.obstacle)

    def find(self, name: str) -> list[Group]:
        """Returns the groups that have a name, or that a layer of that name is in.

        Raises:
            UnknownNameError: No group and no layer that makes channels has it.
        """
        found = [group for group in self.groups if name in (group.name, *group.layers)]
        if not found:
            known = sorted({group.name for group in self.groups} | {name for g in self.groups for name in g.layers})
            raise UnknownNameError(
                f"No layer that makes channels is named '{name}'; there are {', '.join(known)}.{suggest(name, known)}",
                expected=f"one of {', '.join(known)}",
                received=name,
            )
        return [group for group in found if group.name == name] or found


def find_groups(model: "keras.Model", skip: Collection[str] = ()) -> ChannelMap:
    """Follows the channels of a functional model from layer to layer.

    What is added, multiplied or averaged element by element is coupled; what is concatenated stays apart; a layer that
    bmp does not know may mix channels, so that those which reach it cannot be removed. Nor can those of inputs and
    outputs.

    Args:
        model: Functional or sequential, with weights; a model within it is a layer that bmp does not know.
        skip: Layers whose channels are to stay.

    Raises:
        ExportError: The model is subclassed.
        UnknownNameError: `skip` names no layer of the model.
    """
    check_functional(model)
    _check_names(skip, [layer.name for layer in model.layers])
    trace = _Trace(skip)
    for tensor in model.inputs:
        trace.enter(tensor)
    for node in list_calls(model):
        trace.visit(node)
    for tensor in model.outputs:
        trace.block(trace.atoms[id(tensor)], "they are the output")
    return trace.draw([layer.name for layer in model.layers])


def check_functional(model: "keras.Model") -> None:
    """Checks that the graph of layers can be seen.

    Raises:
        ExportError: The model is subclassed.
    """
    if not model._is_graph_network:
        raise ExportError(
            f"The model '{model.name}' is subclassed: which of its channels belong together cannot be seen. Build it "
            "with keras.Model(inputs, outputs).",
            expected="a functional or sequential model",
            received="a subclassed one",
        )


def _check_names(names: Collection[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"The model has no layer '{name}'; it has {', '.join(known)}.{suggest(name, known)}",
                expected=f"one of {', '.join(known)}",
                received=name,
            )


class _Trace:
    """Channels on their way through the graph. Each channel that a layer makes is an atom; coupled atoms are a unit."""

    def __init__(self, skip: Collection[str]) -> None:
        self.atoms: dict[int, np.ndarray] = {}  # of each tensor by its id, (C,)
        self._skip = skip
        self._makers: list[str] = []  # of each atom: the layer, or "" where it is none that can make fewer
        self._parents: list[int] = []  # of each atom: one that it is coupled with, or itself
        self._obstacles: dict[int, str] = {}
        self._entering: dict[str, np.ndarray] = {}
        self._leaving: dict[str, np.ndarray] = {}

    def enter(self, tensor: Any) -> None:
        """Takes an input of the model."""
        self.atoms[id(tensor)] = self._block_new(tensor.shape, "they are an input")

    def visit(self, node: Any) -> None:
        """Follows the channels through one call of a layer."""
        import tensorflow as tf

        layer, tensors, outputs = node.layer, node.keras_inputs, tf.nest.flatten(node.outputs)
        inputs = [self.atoms[id(tensor)] for tensor in tensors]
        call = Call(layer, inputs, [tuple(tensor.shape) for tensor in tensors], tuple(outputs[0].shape))
        found = follow(self, call) if len(outputs) == 1 else BLOCKED
        if found is BLOCKED:
            reason = f"they reach '{layer.name}' ({type(layer).__name__}), which may mix channels"
            for array in inputs:
                self.block(array, reason)
            for tensor in outputs:
                self.atoms[id(tensor)] = self._block_new(tensor.shape, f"'{layer.name}' makes them")
            return
        assert isinstance(found, np.ndarray)
        self.atoms[id(outputs[0])] = found
        if layer.name in self._skip:
            self.block(found, f"'{layer.name}' is to be skipped")
        self._note(self._entering, layer.name, np.concatenate(inputs))
        self._note(self._leaving, layer.name, found)

    def make(self, layer: Any, width: int) -> np.ndarray:
        """Returns the atoms of a layer that makes channels; the same ones whenever it is called."""
        if layer.name not in self._leaving:
            return self._new(width, layer.name)
        return self._leaving[layer.name]

    def couple(self, first: np.ndarray, second: np.ndarray) -> None:
        """Lets the atoms at the same place of two arrays `(C,)` live and die together."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self._parents[self._find(one)] = self._find(other)

    def block(self, atoms: np.ndarray, reason: str) -> None:
        """Makes some atoms stay, for a reason; the last one that is found counts."""
        self._obstacles.update(dict.fromkeys(atoms.tolist(), reason))

    def draw(self, order: list[str]) -> ChannelMap:
        """Returns the map of all that was visited."""
        roots = np.array([self._find(atom) for atom in range(len(self._parents))], np.int64)
        _, unit_of = np.unique(roots, return_inverse=True)
        return ChannelMap(
            tuple(self._draw_groups(unit_of, order)),
            {name: unit_of[atoms] for name, atoms in self._entering.items()},
            {name: unit_of[atoms] for name, atoms in self._leaving.items()},
            int(unit_of.max()) + 1,
        )

    def _draw_groups(self, unit_of: np.ndarray, order: list[str]) -> list[Group]:
        makers: dict[int, set[str]] = {}
        obstacles: dict[int, str] = {}
        for atom, unit in enumerate(unit_of.tolist()):
            makers.setdefault(unit, set()).add(self._makers[atom])
            if atom in self._obstacles:
                obstacles.setdefault(unit, self._obstacles[atom])
        alike: dict[tuple[tuple[str, ...], str], list[int]] = {}
        place = {name: number for number, name in enumerate(order)}
        for unit, names in makers.items():
            layers = tuple(sorted(names - {""}, key=place.__getitem__))
            if layers:
                alike.setdefault((layers, obstacles.get(unit, "")), []).append(unit)
        firsts = [layers[0] for layers, _ in alike]
        groups = [
            Group(
                layers[0] if firsts.count(layers[0]) == 1 else "+".join(layers), layers, np.array(units, np.int64), why
            )
            for (layers, why), units in alike.items()
        ]
        return sorted(groups, key=lambda group: [place[name] for name in group.layers])

    def _new(self, width: int, maker: str = "") -> np.ndarray:
        first = len(self._parents)
        self._parents += range(first, first + width)
        self._makers += [maker] * width
        return np.arange(first, first + width)

    def _block_new(self, shape: Any, reason: str) -> np.ndarray:
        atoms = self._new(shape[-1] or 0 if len(shape) > 1 else 0)
        self.block(atoms, reason)
        return atoms

    def _find(self, atom: int) -> int:
        while self._parents[atom] != atom:
            self._parents[atom] = self._parents[self._parents[atom]]
            atom = self._parents[atom]
        return atom

    def _note(self, places: dict[str, np.ndarray], name: str, atoms: np.ndarray) -> None:
        """Remembers where atoms pass; of a layer that is called again, what passes there is coupled."""
        before = places.setdefault(name, atoms)
        if before.shape == atoms.shape:
            self.couple(before, atoms)
        else:
            for array in (before, atoms):
                self.block(array, f"they reach '{name}', which is called on several widths")
