"""Which layers had better stay float in an int8 file: found by the errors that rounding makes in each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bmp.artifact.graph import Graph, Operator, read_graph
from bmp.artifact.litert import LiteRTRunner, Storage, layer_names
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

FAR_OUT = 0.1
"""Error of a layer, as a share of what its channels carry, above which it may stay float; most are under 0.05."""

NOTICEABLE = 0.1
"""Least share of the error of the output that a layer must be to blame for to stay float."""

_MAX_EXAMPLES = 64
_MAX_TRIES = 12


@dataclass(frozen=True)
class Fallback:
    """The outcome.

    Args:
        float_layers: What stays float, in the order in which it was found.
        notes: Whole sentences: which, why and what it brings, or that there is none.
    """

    float_layers: tuple[str, ...]
    notes: tuple[str, ...]


def find_fallback(model: "keras.Model", signature: Signature, calibration: Arrays) -> Fallback:
    """Finds the layers to leave float: those whose int8 output is far out, as far as the output of the model gains.

    They are made float one after the other, the worst first and each with those that follow it, and then given back
    where that costs little: what is rounded between two layers stays rounded until both are float.

    Args:
        model: A functional model.
        signature: Of the model.
        calibration: Inputs `(N, *shape)` by name; ranges are taken from all, errors from the first 64.

    Raises:
        ExportError: LiteRT cannot convert the model.
    """
    from bmp.artifact.conversion import calibrate, quantize

    calibrated = calibrate(model, signature, calibration)
    few = {name: array[:_MAX_EXAMPLES] for name, array in calibration.items()}
    expected = LiteRTRunner(calibrated, signature).run(few)

    def measure(layers: Sequence[str]) -> float:
        """Returns the RMS error of the output with some layers in float32."""
        content = quantize(calibrated, Storage("int8", float_layers=tuple(layers)), model)
        return _rms_diff(expected, LiteRTRunner(content, signature).run(few))

    errors = measure_layer_errors(calibrated, signature, few, model)
    far_out = sorted((name for name in errors if errors[name] > FAR_OUT), key=lambda name: -errors[name])
    followers = _find_followers(read_graph(calibrated), model)
    candidates = dict.fromkeys(name for layer in far_out for name in (layer, *followers.get(layer, ())))
    before = measure([])
    chosen = _choose(list(candidates)[:_MAX_TRIES], measure, NOTICEABLE * before)
    if not chosen:
        return Fallback((), ("int8: no layer stays float32; none would gain much by it.",))
    after = measure(chosen)
    notes = [f"int8: layer '{name}' stays float32: {_explain(errors.get(name, 0.0))}." for name in chosen]
    notes.append(f"int8: with that the output is {after:.3g} from float32's (RMS), instead of {before:.3g}.")
    return Fallback(tuple(chosen), tuple(notes))


def _explain(error: float) -> str:
    if error <= FAR_OUT:
        return "it follows one that does, and int8 would round what it is given"
    return f"in int8 it is off by {error:.0%} of what it gives"


def _choose(layers: Sequence[str], measure: Callable[[Sequence[str]], float], noticeable: float) -> list[str]:
    """Returns the fewest of the layers, in order, without which the error is noticeably larger than with all."""
    errors = [measure(layers[:count]) for count in range(len(layers) + 1)]
    enough = next(count for count, error in enumerate(errors) if error <= min(errors) + noticeable)
    chosen, error = list(layers[:enough]), errors[enough]
    for layer in reversed(layers[:enough]):
        rest = [name for name in chosen if name != layer]
        error_of_rest = measure(rest)
        if error_of_rest <= error + noticeable:
            chosen, error = rest, error_of_rest
    return chosen


def measure_layer_errors(
    calibrated: bytes, signature: Signature, inputs: Arrays, model: "keras.Model"
) -> dict[str, float]:
    """Returns how much of what each layer gives is error in int8, with the same input: 0 none, 1 as much as signal.

    It is the RMS error of a channel over the spread of that channel, averaged over channels, so that one that is
    large does not hide what becomes of the small ones.

    Args:
        calibrated: What `conversion.calibrate` returns.
        signature: Of the model.
        inputs: `(N, *shape)` by name.
        model: Whose layers they are.
    """
    from bmp.artifact.conversion import quantize

    content = quantize(calibrated, Storage("int8"), model, compares=True)
    graph = read_graph(content)
    checks = [operator for operator in graph.operators if operator.name == "NumericVerify"]
    indices = [index for check in checks for index in (check.inputs[1], check.outputs[0])]
    arrays = iter(LiteRTRunner(content, signature).read(inputs, indices))
    errors: dict[str, float] = {}
    for check, values, differences in zip(checks, arrays, arrays, strict=True):
        layer = _find_layer(graph, check, model)
        if layer is not None:
            errors[layer] = max(_relative_error(values, differences), errors.get(layer, 0.0))
    return errors


def _find_layer(graph: Graph, operator: Operator, model: "keras.Model") -> str | None:
    """Returns the layer that an operation comes from: of those that are fused into it, the one with the kernel."""
    found = graph.layers_of(operator, layer_names(model))
    weighted = {layer.name for layer in model.layers if layer.weights}
    candidates = [name for name in found if name in weighted] or list(found)
    return candidates[-1] if candidates else None  # the name of the first to compute stands last


def _find_followers(graph: Graph, model: "keras.Model") -> dict[str, list[str]]:
    """Returns which layers with a kernel are given what each layer with a kernel gives, directly or passed on."""
    followers: dict[str, list[str]] = {}
    for operator in graph.operators:
        if not any(graph.kernels_of(operator)):
            continue
        layer = _find_layer(graph, operator, model)
        for before in _find_givers(graph, operator):
            giver = _find_layer(graph, before, model)
            if layer is not None and giver is not None and giver != layer:
                followers.setdefault(giver, []).append(layer)
    return followers


def _find_givers(graph: Graph, operator: Operator) -> list[Operator]:
    """Returns the operations with a kernel from which inputs of an operation come, through others without one."""
    givers, seen, waiting = [], set[int](), list(operator.inputs)
    while waiting:
        before = graph.producer(waiting.pop())
        if before is None or before.index in seen:
            continue
        seen.add(before.index)
        if any(graph.kernels_of(before)):
            givers.append(before)
        else:
            waiting += before.inputs
    return givers


def _relative_error(values: np.ndarray, differences: np.ndarray) -> float:
    """Returns the error over the spread of each channel, the last dimension, averaged; constant ones are left out."""
    values, differences = (array.astype(np.float64).reshape(-1, array.shape[-1]) for array in (values, differences))
    spread, error = values.std(axis=0), np.sqrt((differences**2).mean(axis=0))
    varies = spread > 0
    return float((error[varies] / spread[varies]).mean()) if varies.any() else 0.0


def _rms_diff(expected: Arrays, outputs: Arrays) -> float:
    squares = [np.mean((expected[name] - outputs[name]).astype(np.float64) ** 2) for name in expected]
    return float(np.sqrt(np.mean(squares)))
