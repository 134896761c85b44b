"""Networks of Keras 3: run by Keras 3, and written as a Keras 2 twin where every layer has one.

The twin makes all that bmp does with Keras models possible, compression too. A network without a twin is written from
its own graph, as SavedModel and LiteRT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmp.artifact.formats import FORMATS
from bmp.errors import ArtifactError, ExportError, ProofError
from bmp.imports.data import make_examples
from bmp.imports.original import Function, Original
from bmp.imports.parity import allowed_difference, measure_difference
from bmp.imports.sources.keras2 import make_run, make_writers, to_spec
from bmp.imports.sources.keras3_twin import make_twin, name_outputs
from bmp.signature import Signature, TensorSpec


def read_keras3(path: Path, *, trust: bool) -> Original:
    """Reads a `.keras` file of Keras 3.

    Args:
        path: The file, which has been checked.
        trust: Whether code that the file brings along may run.

    Raises:
        ArtifactError: It holds no network that can be served.
    """
    import keras

    loaded = keras.saving.load_model(path, compile=False, safe_mode=not trust)
    model = _to_functional(loaded, path)
    signature = _describe(model, path)
    run = make_run(model, signature)
    engine = f"keras {keras.__version__}"
    try:
        twin = make_twin(model, signature)
        examples = make_examples(signature).inputs
        expected = run(examples)
        difference = measure_difference(expected, make_run(twin, signature)(examples))
        if difference > allowed_difference(expected):
            raise ExportError(f"rebuilt with Keras 2, its outputs differ by {difference:.3g}")
    except (ExportError, ProofError) as error:
        reason = f"Keras 2 cannot hold the network: {error.message.rstrip('.')}."
        return Original(engine, signature, run, _make_graph_writers(model, signature), {"h5": reason})
    return Original(engine, signature, run, make_writers(name_outputs(twin, signature)))


def _to_functional(model: Any, path: Path) -> Any:
    """Returns the network as a graph of layers whose outputs are a list."""
    import keras

    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ArtifactError(
            f"The network in {path} does not say what it takes: it is subclassed, or was never built. Export it with "
            "model.export(directory), and import that directory."
        )
    return keras.Model(model.inputs, model.outputs, name=model.name)


def _describe(model: Any, path: Path) -> Signature:
    outputs = zip(_name_tensors(model), model.outputs, strict=True)
    inputs = tuple(to_spec("input", tensor.name, tensor.dtype, tensor.shape, path) for tensor in model.inputs)
    sizes = {node.input_tensors[0].name: operation.input_dim for operation, node in _each_embedding(model)}
    return Signature(
        tuple(
            TensorSpec(spec.name, spec.dtype, spec.shape, sizes.get(spec.name) if spec.dtype[0] in "iu" else None)
            for spec in inputs
        ),
        tuple(to_spec("output", name, tensor.dtype, tensor.shape, path) for name, tensor in outputs),
        "regression",
    )


def _each_embedding(model: Any) -> Any:
    import keras

    for operation in model.operations:
        if isinstance(operation, keras.layers.Embedding) and len(operation._inbound_nodes) == 1:
            yield operation, operation._inbound_nodes[0]


def _name_tensors(model: Any) -> list[str]:
    """Returns names for the outputs: of the layers they come from, numbered where one gives several."""
    names: list[str] = []
    for tensor in model.outputs:
        name = tensor._keras_history.operation.name
        taken = sum(known == name or known.startswith(f"{name}_") for known in names)
        names.append(f"{name}_{taken}" if taken else name)
    return names


def _make_graph_writers(model: Any, signature: Signature) -> Mapping[str, Any]:
    """Returns how the graph of a Keras 3 network is written."""

    def call(tensors: dict[str, Any]) -> dict[str, Any]:
        given = [tensors[spec.name] for spec in signature.inputs]
        outputs = model(given, training=False)
        several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return {spec.name: output for spec, output in zip(signature.outputs, several, strict=True)}

    weights = [variable.value for variable in model.variables]
    function = Function(model.name, call, weights, [spec.name for spec in signature.inputs])
    return {
        form: lambda signature, path, form=form: FORMATS[form].write(function, signature, path)
        for form in ("saved_model", "litert")
    }
