"""Random numbers of a step as a function of (seed, step, replica, place): nothing to save, nothing to lose.

Keras' random layers (dropout, noise, attention, recurrent dropout) draw from operations with hidden state, which no
checkpoint can hold. For the time of a training they draw from here.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tf_keras.src import backend
from tf_keras.src.engine.base_layer import BaseRandomLayer

if TYPE_CHECKING:
    import tf_keras as keras

_GOLDEN = 0x9E3779B1 - 2**32  # spreads replicas over the range of int32 (Knuth, TAOCP 3, 6.4)


class Draws:
    """Where the draws of a step begin; set by the step while it is traced, read by every random layer.

    Args:
        seed: Of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._local = threading.local()  # mirrored replicas are traced by a thread each

    @contextmanager
    def of_step(self, step: tf.Tensor, replica: tf.Tensor) -> Iterator[None]:
        """Lets layers draw for a step, int64 scalar, and a replica (or a piece of one), int32 scalar."""
        self._local.start = (tf.cast(step, tf.int32), tf.cast(replica, tf.int32) * tf.constant(_GOLDEN, tf.int32))
        try:
            yield
        finally:
            self._local.start = None

    def next_seed(self, place: Sequence[Any]) -> tf.Tensor | None:
        """Returns the seed of one draw, int32 `(2,)`, or None outside of a step.

        Args:
            place: Where in the model it is drawn; equal places draw equal numbers.
        """
        start = getattr(self._local, "start", None)
        if start is None:
            return None
        digest = hashlib.sha256(repr((self._seed, *place)).encode()).digest()
        step, replica = start
        return tf.stack([step, replica + tf.constant(int.from_bytes(digest[:4], "little", signed=True), tf.int32)])


class StepGenerator(backend.RandomGenerator):
    """Takes the place of a layer's generator; outside of a step it is that generator.

    Args:
        own: The layer's.
        draws: Of the training.
        place: Of the layer in the model.
    """

    def __init__(self, own: backend.RandomGenerator, draws: Draws, place: int) -> None:
        super().__init__(own._seed, rng_type=own._rng_type)
        self.own = own
        self._draws = draws
        self._place = place
        self._count = 0

    def _next_seed(self) -> tf.Tensor | None:
        """Each line of code that draws has a number of its own, given when the step is traced."""
        seed = self._draws.next_seed((self._place, self._count))
        self._count += seed is not None
        return seed

    def restart(self) -> None:
        """Numbers the draws from 0 again: a second trace of the same step draws the same."""
        self._count = 0

    def make_seed_for_stateless_op(self) -> Any:
        """Returns a seed of the step."""
        seed = self._next_seed()
        return self.own.make_seed_for_stateless_op() if seed is None else seed

    def random_normal(self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, **rest: Any) -> Any:
        """Draws from a normal distribution."""
        seed = self._next_seed()
        if seed is None:
            return self.own.random_normal(shape, mean, stddev, dtype, **rest)
        return tf.random.stateless_normal(shape, seed, mean, stddev, dtype or backend.floatx())

    def random_uniform(
        self, shape: Any, minval: float = 0.0, maxval: Any = None, dtype: Any = None, **rest: Any
    ) -> Any:
        """Draws evenly from a range."""
        seed = self._next_seed()
        if seed is None:
            return self.own.random_uniform(shape, minval, maxval, dtype, **rest)
        dtype = dtype or backend.floatx()
        top = 1.0 if maxval is None and tf.as_dtype(dtype).is_floating else maxval
        return tf.random.stateless_uniform(shape, seed, minval, top, dtype)

    def truncated_normal(
        self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, **rest: Any
    ) -> Any:
        """Draws from a normal distribution cut off at two deviations."""
        seed = self._next_seed()
        if seed is None:
            return self.own.truncated_normal(shape, mean, stddev, dtype, **rest)
        return tf.random.stateless_truncated_normal(shape, seed, mean, stddev, dtype or backend.floatx())

    def dropout(self, inputs: Any, rate: Any, noise_shape: Any = None) -> Any:
        """Sets a share of the inputs to zero and scales the others up."""
        seed = self._next_seed()
        if seed is None:
            return self.own.dropout(inputs, rate, noise_shape)
        return tf.nn.experimental.stateless_dropout(inputs, rate, seed, noise_shape=noise_shape)


class SteppedRandomness:
    """The random layers of a model, for the time of a training.

    Args:
        model: Built.
        seed: Of the run.
    """

    def __init__(self, model: "keras.Model", seed: int) -> None:
        self.draws = Draws(seed)
        self._layers: list[Any] = [layer for layer in model._flatten_layers() if isinstance(layer, BaseRandomLayer)]
        self._generators = [
            StepGenerator(layer._random_generator, self.draws, place) for place, layer in enumerate(self._layers)
        ]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Lets the layers draw by step, and gives them their own generators back at the end."""
        for layer, generator in zip(self._layers, self._generators, strict=True):
            layer._random_generator = generator
        try:
            yield
        finally:
            for layer, generator in zip(self._layers, self._generators, strict=True):
                layer._random_generator = generator.own

    def restart(self) -> None:
        """To be called before the model is, each time a step is traced."""
        for generator in self._generators:
            generator.restart()


def find_stateful_draws(functions: Sequence[Any]) -> list[str]:
    """Returns the kinds of operations with hidden random state in traced `tf.function`s, their libraries included."""
    graphs = [
        concrete.graph.as_graph_def() for function in functions for concrete in function._list_all_concrete_functions()
    ]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    return sorted({node.op for node in nodes} & _STATEFUL)


_STATEFUL = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "SampleDistortedBoundingBoxV2",
    "TruncatedNormal",
}
