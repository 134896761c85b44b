"""What can be done to a model, before anything is done: each layer and each technique, in seconds."""

import inspect
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.compression.legalise.equality import draw_inputs
from bmp.compression.legalise.graph import Neighbours
from bmp.compression.legalise.legal import Legal, legalise
from bmp.compression.technique import Stage, Support, Technique
from bmp.errors import ExportError
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

_LONGEST = 300
"""Characters of a reason that somebody else's code gives."""

_FLOAT = {
    "Trees": "a rounded threshold sends examples to another leaf",
    "SupportVectors": "distances are differences of nearly equal numbers",
    "PairwiseVotes": "votes are counted, and a rounded decision is another vote",
}
"""Layers that int8 must leave alone, and why."""


@dataclass(frozen=True)
class LayerSupport:
    """What techniques can do with a layer.

    Args:
        layer: Its name.
        kind: Its class.
        weights: How many it has.
        supports: By technique.
    """

    layer: str
    kind: str
    weights: int
    supports: dict[str, Support]


@dataclass(frozen=True)
class Verdict:
    """What a technique can do with a model.

    Args:
        verdict: `applies`; `rewrite`: after one that bmp makes by itself; `no`.
        reason: A clause: how much of the model, what the file is, or why not.
        fix: What a person can do about it.
        tried: Whether it was done, and not only looked up.
    """

    verdict: Literal["applies", "rewrite", "no"]
    reason: str
    fix: str = ""
    tried: bool = False


@dataclass(frozen=True)
class Report:
    """What `check_support` found.

    Args:
        model: Its name.
        rows: A row for each layer, models inside laid open.
        verdicts: By technique.
        float_layers: Layers that must stay float under int8, each with the reason.
        legal: The model after the rewrites; None where it cannot be traced.
        notes: Whole sentences.
    """

    model: str
    rows: tuple[LayerSupport, ...]
    verdicts: dict[str, Verdict]
    float_layers: dict[str, str]
    legal: Legal | None
    notes: tuple[str, ...] = ()

    def works(self, technique: str) -> bool:
        """Returns whether a technique can do anything with the model."""
        return self.verdicts[technique].verdict != "no"


def check_support(
    model: "keras.Model",
    signature: Signature,
    *,
    techniques: Mapping[str, Technique] | None = None,
    examples: Arrays | None = None,
) -> Report:
    """Looks what can be done to a model; storage is really tried, by exporting and running it.

    Args:
        model: Any Keras model; it is not touched.
        signature: Of the model.
        techniques: By name; those of TECHNIQUES, with their default arguments, if None.
        examples: A few real inputs by name, for rewrites and ranges; random ones if None.
    """
    needy: dict[str, str] = {}
    if techniques is None:
        techniques, needy = _build_techniques()
    flat, legal, notes = _rewrite(model, signature, examples)
    obstacles = _find_obstacles(techniques, flat.model, legal)
    rows = tuple(_look_at(layer, flat, legal, techniques, obstacles) for layer in _list_layers(flat.model))
    final = (legal or flat).model
    float_layers = find_float_layers(final)
    verdicts = {name: Verdict("applies", f"the whole network is replaced; name {args}") for name, args in needy.items()}
    for name, technique in techniques.items():
        if technique.stage == Stage.STORED:
            verdicts[name] = _try_storage(technique, final, signature, examples, float_layers)
        else:
            verdicts[name] = _sum_up(name, rows)
    return Report(model.name, rows, _in_order(verdicts), float_layers, legal, notes)


def find_float_layers(model: "keras.Model") -> dict[str, str]:
    """Returns the layers that must stay float under int8, each with the reason.

    Beside those that cannot bear rounding these are all that lead up to them, whose outputs would be rounded. Of a
    subclassed model, in which nobody knows what leads where, only the former.
    """
    bad = {layer.name: _FLOAT[type(layer).__name__] for layer in model.layers if type(layer).__name__ in _FLOAT}
    if not model._is_graph_network:
        return bad
    around, found = Neighbours(model), dict(bad)
    for layer in reversed(_list_layers(model)):
        fed = [user.name for user in around.list_users(layer) if user is not None and user.name in found]
        if fed:
            found.setdefault(layer.name, f"it feeds {fed[0]}")
    return {layer.name: found[layer.name] for layer in _list_layers(model) if layer.name in found}


def _build_techniques() -> tuple[dict[str, Technique], dict[str, str]]:
    """Returns every technique with its default arguments, and for the others which arguments they need."""
    from bmp.compression.techniques import TECHNIQUES

    built, needy = {}, {}
    for name, entry in TECHNIQUES.items():
        parameters = inspect.signature(entry).parameters.values()
        needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
        if needed:
            needy[name] = ", ".join(needed)
        else:
            built[name] = TECHNIQUES.bind(name, {})()
    return built, needy


def _in_order(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    from bmp.compression.techniques import TECHNIQUES

    known = [name for name in TECHNIQUES if name in verdicts]
    return {name: verdicts[name] for name in (*known, *verdicts)}


def _rewrite(
    model: "keras.Model", signature: Signature, examples: Arrays | None
) -> tuple[Legal, Legal | None, tuple[str, ...]]:
    """Returns the model as one flat graph, and after all rewrites; None for the second where it cannot be traced."""
    try:
        flat = legalise(model, signature, rewrites=["flatten"], examples=examples)
    except ExportError as error:
        return Legal(model), None, (error.message,)
    legal = legalise(flat.model, signature, examples=examples)
    return flat, replace(legal, steps=(*flat.steps, *legal.steps)), (*flat.notes, *legal.notes)


def _list_layers(model: "keras.Model") -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]


def _find_obstacles(
    techniques: Mapping[str, Technique], model: "keras.Model", legal: Legal | None
) -> dict[str, Support]:
    """Returns why techniques can do nothing with a whole model, whatever its layers are."""
    found, is_trained = {}, bool(model.trainable_weights)
    for name, technique in techniques.items():
        if technique.stage != Stage.STORED and legal is None:
            reason = "the model cannot be followed layer by layer"
            found[name] = Support("no", reason, "write it as a functional model")
        elif technique.trains and not is_trained:
            found[name] = Support("no", "the model has no trainable weights", "store it as dynamic or float16")
    return found


def _look_at(
    layer: Any,
    flat: Legal,
    legal: Legal | None,
    techniques: Mapping[str, Technique],
    obstacles: Mapping[str, Support],
) -> LayerSupport:
    weights = sum(int(weight.shape.num_elements()) for weight in layer.weights)
    supports = {
        name: obstacles.get(name) or _judge(layer, flat, legal, technique) for name, technique in techniques.items()
    }
    return LayerSupport(layer.name, type(layer).__name__, weights, supports)


def _judge(layer: Any, flat: Legal, legal: Legal | None, technique: Technique) -> Support:
    """Returns what a technique says to a layer, or else to what the layer becomes."""
    support = technique.support(layer)
    if support.verdict == "applies" and flat.steps and technique.stage != Stage.STORED:
        return replace(support, verdict="rewrite", reason=_join(step.name for step in flat.steps))
    if support.verdict != "no" or legal is None:
        return support
    layers = {other.name: other for other in legal.model.layers}
    rewrites = legal.explain(layer.name)
    become = [technique.support(layers[name]) for name in legal.find(layer.name)] if rewrites else []
    if any(other.verdict == "applies" for other in become):
        return Support("rewrite", _join([*(step.name for step in flat.steps), *rewrites]))
    return support


def _sum_up(name: str, rows: Iterable[LayerSupport]) -> Verdict:
    """Returns the verdict over all layers of a technique that was looked up."""
    weighty = [row for row in rows if row.weights]
    taken = [row for row in weighty if row.supports[name].verdict in ("applies", "rewrite")]
    if not taken:
        return _refuse(name, weighty)
    rewrites = [row.supports[name].reason for row in taken if row.supports[name].verdict == "rewrite"]
    share = sum(row.weights for row in taken) / sum(row.weights for row in weighty)
    reason = f"{len(taken)} of {len(weighty)} layers with weights, {share:.0%} of the weights"
    if not rewrites:
        return Verdict("applies", reason)
    return Verdict("rewrite", f"{reason}; {len(rewrites)} of them after {_join(_split(rewrites))}")


def _refuse(name: str, rows: list[LayerSupport]) -> Verdict:
    """Returns why no layer will do: what is said of most of them."""
    refused = [row.supports[name] for row in rows if row.supports[name].reason]
    if not refused:
        return Verdict("no", "no layer has weights that it works on")
    reasons = [support.reason for support in refused]
    common = max(refused, key=lambda support: reasons.count(support.reason))
    return Verdict("no", f"in no layer: {common.reason}", common.fix)


def _try_storage(
    technique: Technique,
    model: "keras.Model",
    signature: Signature,
    examples: Arrays | None,
    float_layers: Mapping[str, str],
) -> Verdict:
    """Exports a model and runs the file."""
    storage = Storage(technique.kind)  # type: ignore[attr-defined]
    if storage.kind == "int8":
        storage = replace(storage, float_layers=tuple(float_layers))
    inputs = examples or draw_inputs(signature)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.tflite"
        try:
            calibration = inputs if storage.is_calibrated else None
            write_litert(model, signature, path, storage=storage, calibration=calibration)
            LiteRTRunner(path, signature).run(inputs)
        except Exception as error:  # bmp's own, LiteRT's, and whatever a call of the user's own raises
            return Verdict("no", " ".join(str(error).split())[:_LONGEST].rstrip("."), tried=True)
        kept = f"; float in it: {', '.join(storage.float_layers)}" if storage.float_layers else ""
        return Verdict("applies", f"exported and run: {path.stat().st_size:,} bytes{kept}", tried=True)


def _split(rewrites: Iterable[str]) -> list[str]:
    return [name for rewrite in rewrites for name in rewrite.split(", ")]


def _join(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
