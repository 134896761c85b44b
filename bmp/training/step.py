"""One step of training, on one replica: the loss of its share, the gradient, the update, the metrics.

The sum over all replicas is the gradient of the mean loss over the global batch, exactly, however the batch is dealt
out and in however many pieces a replica computes its share.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from bmp.training.randomness import SteppedRandomness
from bmp.training.teacher import Answer, Teacher

Losses = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Targets and outputs to the loss of each example, `(b,)`."""


@dataclass(frozen=True)
class StepOptions:
    """How a step computes.

    Args:
        train_losses: Of each example, in training.
        test_losses: Of each example, in validation.
        class_weights: What an example counts by its class, float32 `(classes,)`, or None.
        pieces: In which a replica computes its share, one after the other.
        skip_nonfinite: Whether a batch without a finite loss and gradient is left out.
        seed: Of dropout and noise.
        output_shape: Of the model's output for one example.
        teacher: Whom the model learns from in training.
    """

    train_losses: Losses
    test_losses: Losses
    class_weights: np.ndarray | None = None
    pieces: int = 1
    skip_nonfinite: bool = False
    seed: int = 0
    output_shape: tuple[int | None, ...] = ()
    teacher: Teacher | None = None


class Step:
    """The steps of training and of validation of a compiled model.

    Its metrics are those of the model (`model.metrics`: the loss, then those of the objective), so that Keras resets
    and reports them. A step returns them as its own replica sees them; the end of an epoch reports them over all.

    Args:
        model: Compiled, within the scope of the strategy.
        strategy: Where its variables live.
        options: How it computes.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy, options: StepOptions) -> None:
        self.model = model
        self.strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        self.is_coordinated = strategy._should_use_with_coordinator
        self.randomness = SteppedRandomness(model, options.seed)
        self.calls: Literal["single", "loop", "either"] = "either"
        """Whether a call is always one step, always a loop (be it of one step), or which of the two the model says at
        that time: asking takes a while, and so does a second trace."""
        self._options = options
        self._steps: dict[bool, Callable[[Any], None]] = {}
        self._traced: list[Any] = []
        self._bad_steps: list[tf.Tensor] = []  # of each replica of this process, as the last call left them
        with strategy.scope():
            leaf = tf.zeros([1, 1])  # Keras makes its metrics at the first batch; they are needed before
            model.compiled_loss.build(leaf)
            model.compiled_metrics.build(leaf, leaf)
            self._loss_metric = model.compiled_loss.metrics[0]
            for metric in model.metrics:  # some wait for the first batch, which a replica cannot make variables in
                if not metric.built:
                    metric.build((None, *options.output_shape), (None, *options.output_shape))
            # 1 + the first step whose loss was not finite, or 0; how many were left out, and 1 + the last of them.
            self._bad_step, self._skipped, self._last_skipped = (
                tf.Variable(
                    0,
                    dtype=tf.int64,
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for _ in range(3)
            )

    @property
    def counter(self) -> tf.Variable:
        """Steps done in this training, int64 scalar."""
        return self.model._train_counter

    @property
    def others(self) -> Sequence[tf.Variable]:
        """What is trained beside the weights of the model."""
        return () if self._options.teacher is None else self._options.teacher.variables

    @property
    def _trained(self) -> list[tf.Variable]:
        return [*self.model.trainable_variables, *self.others]

    def bad_step(self) -> int | None:
        """Returns the first step whose loss was not finite on a replica of this process, or None."""
        found = [step for step in map(int, self._bad_steps) if step]
        return min(found) - 1 if found else None

    def skipped(self) -> int:
        """Returns how many batches were left out."""
        return int(self.strategy.experimental_local_results(self._skipped)[0])

    def last_skipped(self) -> int:
        """Returns the step that was left out last; -1 if none was."""
        return int(self.strategy.experimental_local_results(self._last_skipped)[0]) - 1

    def make_train_function(self, *, jit: bool) -> Callable[[Any], Any]:
        """Returns what `fit` calls with an iterator: as many steps as `model.steps_per_execution` says.

        Args:
            jit: Whether XLA compiles the step; with several replicas, all of it but the exchange and the update.
        """
        return self._repeat(self._make_step(jit), True)

    def try_with_xla(self, iterator: Any) -> tuple[dict[str, tf.Tensor], str | None]:
        """Does one step compiled by XLA or, where it cannot compile it, as it is; no batch is lost by the attempt.

        Returns:
            The metrics, and why XLA cannot compile the step.
        """
        data, spec = tf.function(lambda: next(iterator))(), iterator.element_spec
        try:
            return self._take(data, spec, self._make_step(True)), None
        except Exception as error:  # whatever a compiler says of a model that it does not know
            return self._take(data, spec, self._make_step(False)), " ".join(str(error).split())[:200]

    def _take(self, data: Any, spec: Any, step: Callable[[Any], None]) -> dict[str, tf.Tensor]:
        """Does a step with a batch, whose shape is left as open as the iterator does: it is compiled only once then."""

        def call(data: Any) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            self._run(step, data, counts=True)
            return self._read_results()

        results, self._bad_steps = tf.function(_as_written(call), input_signature=[spec])(data)
        return dict(results)

    def _make_step(self, jit: bool) -> Callable[[Any], None]:
        """Returns the step of one replica; what XLA has compiled once is compiled."""
        if jit not in self._steps:
            compute: Any = self._compute
            if jit:
                compute = tf.function(_as_written(compute), jit_compile=True, reduce_retracing=True)
            whole = jit and self.replicas == 1

            def train(data: Any) -> None:
                self._train(data, self._compute if whole else compute)

            step = _as_written(train)
            self._steps[jit] = tf.function(step, jit_compile=True, reduce_retracing=True) if whole else step
        return self._steps[jit]

    def traced(self) -> list[Any]:
        """Returns the functions of TensorFlow that the newest train function consists of."""
        return self._traced

    def settle(self) -> None:
        """Waits until the workers of a coordinator have done all the steps they were given."""
        if self.is_coordinated:
            self.model._cluster_coordinator.join()

    def evaluate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Returns the metrics over some batches, computed by this process: what a coordinator has for `evaluate`."""
        self.model.reset_metrics()
        test = tf.function(_as_written(self._test), reduce_retracing=True)
        for batch in batches:
            test(batch)
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def make_test_function(self) -> Callable[[Any], Any]:
        """Returns what `evaluate` calls with an iterator."""
        return self._repeat(_as_written(self._test), False)

    def _repeat(self, step: Callable[[Any], None], counts: bool) -> Callable[[Any], Any]:
        times = self.model._steps_per_execution

        def one(iterator: Any) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            self._run(step, next(iterator), counts=counts)
            return self._read_results()

        def several(iterator: Any) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            def go_on(done: tf.Tensor) -> tf.Tensor:
                self._run(step, next(iterator), counts=counts)
                return done + 1

            tf.while_loop(lambda done: done < times, go_on, [tf.constant(0, times.dtype)])
            return self._read_results()

        single, loop = (tf.function(_as_written(call), reduce_retracing=True) for call in (one, several))

        def choose() -> Any:
            loops = int(times.numpy()) > 1 if self.calls == "either" else self.calls == "loop"
            return loop if loops else single

        def run(iterator: Any) -> dict[str, Any]:
            if not self.is_coordinated:
                results, self._bad_steps = choose()(iterator)
                return results
            self.model._cluster_coordinator.schedule(choose(), args=(iterator,))
            return {metric.name: math.nan for metric in self.model.metrics}  # known only when the workers are done

        if counts:
            self._traced = [single, loop]
        return run

    def _read_results(self) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Returns every metric over what the first replica here has seen, and the first bad step of each.

        Both are results of the call: a variable that is read after it costs as much as a small step.
        """
        results = self.strategy.run(_as_written(self._results))
        local = {name: self.strategy.experimental_local_results(value)[0] for name, value in results.items()}
        if self.is_coordinated:
            return local, []
        bad = self.strategy.experimental_local_results(self._bad_step)
        return local, [tf.convert_to_tensor(value) for value in bad]

    def _run(self, step: Callable[[Any], None], data: Any, *, counts: bool) -> None:
        """Runs a step on every replica of this process."""
        self.strategy.run(step, args=(data,))
        if counts:
            self.counter.assign_add(1)

    def _train(self, data: Any, compute: Callable[..., Any]) -> None:
        inputs, targets, weights = self._unpack(data)
        gradients = compute(inputs, targets, weights, _replica_id())
        pairs = list(zip(gradients, self._trained, strict=True))
        if self._options.skip_nonfinite and not _scales_loss(self.model.optimizer):
            self._apply_if_finite(pairs)
        else:
            self.model.optimizer.apply_gradients(pairs)

    def _compute(self, inputs: Any, targets: tf.Tensor, weights: tf.Tensor | None, replica: tf.Tensor) -> list[Any]:
        """Returns the gradient of a share, a tensor (or None) each trained variable, and updates the metrics."""
        self.randomness.restart()
        pieces = self._options.pieces
        if pieces == 1:
            return self._compute_piece(inputs, targets, weights, replica)
        weights = self._weigh_alike(targets) if weights is None else weights
        cut = _cut((inputs, targets, weights), pieces)
        missing = [False] * len(self._trained)

        def add(piece: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            share = tf.nest.map_structure(lambda array: tf.gather(array, piece), cut)
            gradients = self._compute_piece(share[0], share[1], share[2], replica * pieces + piece)
            missing[:] = [gradient is None for gradient in gradients]
            return piece + 1, [
                total if gradient is None else total + gradient for total, gradient in zip(sums, gradients, strict=True)
            ]

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self._trained]
        _, sums = tf.while_loop(lambda piece, _: piece < pieces, add, (0, zeros), parallel_iterations=1)
        return [None if absent else total for absent, total in zip(missing, sums, strict=True)]

    def _compute_piece(self, inputs: Any, targets: tf.Tensor, weights: tf.Tensor | None, place: tf.Tensor) -> list[Any]:
        """Returns the gradient of some examples.

        Args:
            inputs: Of the model, `(b, …)`.
            targets: `(b, …)`.
            weights: What each example counts in the mean over the global batch, `(b,)`; 0 for one that only fills up.
                None where all count the same: that is a little faster.
            place: Of the replica and the piece, int32 scalar: where random numbers begin.
        """
        model, options = self.model, self._options
        lesson = None if options.teacher is None else options.teacher.answer(inputs)
        with self.randomness.draws.of_step(self.counter, place), tf.GradientTape() as tape:
            answer = self._ask(inputs)
            outputs = answer.outputs
            losses = options.train_losses(targets, outputs)  # (b,)
            if options.class_weights is not None:
                losses *= _weigh_classes(targets, options.class_weights)
            if options.teacher is not None and lesson is not None:
                losses = options.teacher.mix(losses, answer, lesson)
            penalty = tf.add_n(model.losses) if model.losses else tf.constant(0.0)
            parts = self.replicas * options.pieces  # each of which computes the penalty once
            mean = tf.reduce_mean(losses) / self.replicas if weights is None else tf.reduce_sum(losses * weights)
            loss = mean + penalty / parts
        pairs = model.optimizer.compute_gradients(loss, self._trained, tape)
        gradients = [gradient for gradient, _ in pairs]
        self._note_bad(self._is_finite(loss, gradients))
        self._measure(targets, outputs, losses + penalty, weights)
        return gradients

    def _ask(self, inputs: Any) -> Answer:
        """Returns what the model says in training, with the features that a teacher looks at."""
        if self._options.teacher is not None:
            return self._options.teacher.ask_student(inputs)
        return Answer(_only(self.model(inputs, training=True)))

    def _is_finite(self, loss: tf.Tensor, gradients: list[Any]) -> tf.Tensor:
        """Whether a loss and its gradient are finite: a ReLU may turn nan into 0, and the loss looks sound.

        With float16 the gradient may be infinite at times: its optimizer leaves the step out, and lowers its scale.
        """
        if self._options.skip_nonfinite or _scales_loss(self.model.optimizer):
            return tf.math.is_finite(loss)
        sums = [tf.reduce_sum(_values(gradient)) for gradient in gradients if gradient is not None]
        return tf.math.is_finite(tf.add_n([loss, *sums]))

    def _test(self, data: Any) -> None:
        inputs, targets, weights = self._unpack(data)
        outputs = _only(self.model(inputs, training=False))
        losses = self._options.test_losses(targets, outputs)  # (b,)
        penalty = tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)
        self._measure(targets, outputs, losses + penalty, weights)

    def _unpack(self, data: Any) -> tuple[Any, tf.Tensor, tf.Tensor | None]:
        """Returns inputs, targets and weights; None in place of weights where all examples weigh the same."""
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        return inputs, targets, weights

    def _weigh_alike(self, targets: tf.Tensor) -> tf.Tensor:
        count = tf.shape(targets)[0]
        return tf.fill([count], 1 / (tf.cast(count, tf.float32) * self.replicas))

    def _note_bad(self, finite: tf.Tensor) -> None:
        """Remembers the first step that is not finite; a sum of sums costs next to nothing beside a gradient."""
        now = tf.where(finite, tf.constant(0, tf.int64), tf.cast(self.counter, tf.int64) + 1)
        before = self._bad_step.read_value()
        self._bad_step.assign(tf.where(before > 0, before, now))

    def _measure(self, targets: tf.Tensor, outputs: tf.Tensor, losses: tf.Tensor, weights: tf.Tensor | None) -> None:
        if weights is None and not self._options.skip_nonfinite:
            self._loss_metric.update_state(losses)
            self.model.compiled_metrics.update_state(targets, outputs)
            return
        counts = tf.ones_like(losses) if weights is None else tf.cast(weights > 0, tf.float32)  # (b,)
        if self._options.skip_nonfinite:
            is_finite = tf.math.is_finite(losses)
            counts, losses = counts * tf.cast(is_finite, tf.float32), tf.where(is_finite, losses, 0.0)
        self._loss_metric.update_state(losses, counts)
        self.model.compiled_metrics.update_state(targets, outputs, counts)

    def _results(self) -> dict[str, tf.Tensor]:
        """Returns every metric over what this replica has seen; no word is exchanged with the others."""
        results: dict[str, tf.Tensor] = {}
        for metric in self.model.metrics:
            found = metric.result() if self.replicas == 1 else _result_here(metric)
            results |= found if isinstance(found, dict) else {metric.name: found}
        return results

    def _apply_if_finite(self, pairs: list[tuple[Any, Any]]) -> None:
        """Updates the weights, unless the summed gradient is not finite; all replicas see the same sum."""
        optimizer = self.model.optimizer
        pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
        gradients = [gradient for gradient, _ in optimizer.aggregate_gradients(pairs)]
        variables = [variable for _, variable in pairs]
        finite = tf.math.is_finite(tf.linalg.global_norm(gradients))

        def apply(gradients: list[Any]) -> None:
            optimizer.apply_gradients(zip(gradients, variables, strict=True), skip_gradients_aggregation=True)

        def update(strategy: tf.distribute.Strategy, finite: Any, gradients: list[Any]) -> None:
            verdict = strategy.experimental_local_results(finite)[0]

            def keep() -> tf.Tensor:
                strategy.extended.call_for_each_replica(apply, args=(gradients,))
                return tf.constant(0)

            tf.cond(verdict, keep, lambda: tf.constant(0))

        tf.distribute.get_replica_context().merge_call(update, args=(finite, gradients))
        self._skipped.assign_add(tf.cast(~finite, tf.int64))
        self._last_skipped.assign(
            tf.where(finite, self._last_skipped.read_value(), tf.cast(self.counter, tf.int64) + 1)
        )


def _as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that AutoGraph calls as it is: to rewrite this file takes longer than to trace it.

    Unlike `tf.autograph.experimental.do_not_convert` it leaves the `call` of a model to AutoGraph.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.autograph_info__ = {}  # type: ignore[attr-defined]  # the mark of what AutoGraph has made itself
    return call


def _values(gradient: Any) -> tf.Tensor:
    """Returns the numbers of a gradient, of an embedding only those of the rows that were looked up."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _replica_id() -> tf.Tensor:
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def _only(outputs: Any) -> tf.Tensor:
    return next(iter(outputs.values())) if isinstance(outputs, dict) else outputs


def _cut(share: Any, pieces: int) -> Any:
    """Turns `(b, …)` arrays, the last of them the weights, into `(pieces, m, …)`; what fills up weighs 0."""
    count = tf.shape(share[-1])[0]
    length = -(-count // pieces)
    index = tf.range(pieces * length)
    *arrays, weights = tf.nest.map_structure(lambda array: tf.gather(array, index % count), share)
    weights = tf.where(index < count, weights, 0.0)
    return tf.nest.map_structure(
        lambda array: tf.reshape(array, tf.concat([[pieces, length], tf.shape(array)[1:]], axis=0)),
        (*arrays, weights),
    )


def _weigh_classes(targets: tf.Tensor, class_weights: np.ndarray) -> tf.Tensor:
    """Returns what each example counts by its class, `(b,)`; of a mixture of classes, the mixture of their weights."""
    weights = tf.constant(class_weights, tf.float32)
    if targets.dtype.is_integer:
        return tf.gather(weights, targets)
    return tf.linalg.matvec(targets, weights)


def _scales_loss(optimizer: Any) -> bool:
    """Whether the optimizer leaves out steps by itself, as that of float16 does."""
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _result_here(metric: keras.metrics.Metric) -> Any:
    """Returns a metric from this replica's own share of its state: Keras' `result` would ask all the others."""
    _, result = tf.__internal__.decorator.unwrap(metric.result)
    return result()
