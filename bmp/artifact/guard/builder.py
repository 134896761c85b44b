"""A network built from its plain description: every layer is looked up in a closed table, none in a module."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bmp.artifact.guard.allowed import LAYERS, OWN_LAYERS
from bmp.artifact.guard.config import Plain
from bmp.artifact.guard.wiring import check_wiring
from bmp.errors import ArtifactError, UnsafeError

if TYPE_CHECKING:
    import tf_keras as keras

_SLACK_BYTES = 2**20
"""What layers may hold beside their weights: states of random numbers."""


def build_network(config: Plain, name: str, weight_bytes: int) -> "keras.Model":
    """Builds a network from its plain description.

    Args:
        config: What `to_plain` returns.
        name: Of the file, for messages.
        weight_bytes: How much the weights of the network may take.

    Raises:
        ArtifactError: The description does not work.
        UnsafeError: It asks for more weights.
    """
    with translate_errors(name), _bounded_weights(weight_bytes + _SLACK_BYTES):
        return _Builder(name).build(config)


@contextmanager
def _bounded_weights(size_bytes: int) -> Iterator[None]:
    """Lets layers make no more weights than there are numbers for, so that no description can fill the memory."""
    import tensorflow as tf

    left = size_bytes

    def create(make: Any, **kwargs: Any) -> Any:
        nonlocal left
        shape = tf.TensorShape(kwargs.get("shape") if kwargs.get("shape") is not None else ())
        left -= (shape.num_elements() or 1) * tf.as_dtype(kwargs.get("dtype") or tf.float32).size
        if left < 0:
            raise UnsafeError(
                f"The network asks for more weights than the file holds, {size_bytes - _SLACK_BYTES:,} bytes; "
                "description and weights are not of one model."
            )
        return make(**kwargs)

    with tf.variable_creator_scope(create):
        yield


class _Builder:
    """Builds layers from plain descriptions; those with one `shared_object_id` are one layer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shared: dict[int, Any] = {}

    def build(self, spec: Plain) -> Any:
        """Returns the layer that a plain description stands for."""
        shared = spec.get("shared_object_id")
        if shared in self._shared:
            return self._shared[shared]
        build = {"Functional": self._functional, "Model": self._functional, "Sequential": self._sequential}
        layer = build.get(spec["class_name"], self._layer)(spec)
        if shared is not None:
            self._shared[shared] = layer
        return layer

    def _functional(self, spec: Plain) -> Any:
        import tf_keras as keras
        from tf_keras.src.engine import functional

        config = spec["config"]
        layers = OrderedDict((layer["name"], self.build(layer)) for layer in config["layers"])
        check_wiring(config, layers)
        inputs, outputs, layers = functional.reconstruct_from_config(config, created_layers=layers)
        model = keras.Model(inputs=inputs, outputs=outputs, name=config.get("name"))
        return functional.connect_ancillary_layers(model, layers)

    def _sequential(self, spec: Plain) -> Any:
        import tf_keras as keras

        config = spec["config"]
        model = keras.Sequential(name=config.get("name"))
        for layer in config["layers"]:
            model.add(self.build(layer))
        if not model.inputs and config.get("build_input_shape"):
            model.build(config["build_input_shape"])
        return model

    def _layer(self, spec: Plain) -> Any:
        kind, config = find_layer(spec["class_name"]), dict(spec["config"])
        held = {
            key: self._build_held(config.pop(key))
            for key in ("layer", "backward_layer", "cell", "cells")
            if key in config
        }
        if not held:
            return kind.from_config(config)
        constants = config.pop("num_constants", 0)
        layer = kind(**held, **config)
        if constants:
            layer._num_constants = constants
        return layer

    def _build_held(self, held: Any) -> Any:
        if isinstance(held, list):
            return [self.build(spec) for spec in held]
        return None if held is None else self.build(held)


def find_layer(name: str) -> Any:
    """Returns the class of a layer: of Keras, of bmp, or one of the user's that this process has registered.

    Args:
        name: As in a plain description.

    Raises:
        ArtifactError: A layer of the user's is not known here.
    """
    import tf_keras as keras

    import bmp.models.layers

    if name in LAYERS:
        return _find_op(name) if name.endswith("OpLambda") else getattr(keras.layers, name)
    if name.startswith("bmp>") and name[4:] in OWN_LAYERS:
        return getattr(bmp.models.layers, name[4:])
    found = keras.saving.get_registered_object(name)
    if found is None:
        raise ArtifactError(f"The layer '{name}' is not known here; import the file that defines it first.")
    return found


def list_own_layers() -> list[str]:
    """Returns the registered names of layers that this process has imported, which files of one's own may hold."""
    import tf_keras as keras

    registered = keras.saving.get_custom_objects().items()
    return [name for name, kind in registered if isinstance(kind, type) and issubclass(kind, keras.layers.Layer)]


def _find_op(name: str) -> Any:
    from tf_keras.src.layers.core import tf_op_layer

    return {"TFOpLambda": tf_op_layer.TFOpLambda, "SlicingOpLambda": tf_op_layer.SlicingOpLambda}[name]


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Turns what Keras raises on a description that does not work into one sentence."""
    import tensorflow as tf

    try:
        yield
    except ArtifactError:
        raise
    except (
        *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError),
        *(OverflowError, RecursionError, ZeroDivisionError, RuntimeError, MemoryError, tf.errors.OpError),
    ) as error:
        first = " ".join(str(error).split())[:300] or type(error).__name__
        raise ArtifactError(f"{name} cannot be rebuilt: {first}.") from error
