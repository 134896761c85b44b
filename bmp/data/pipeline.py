"""The input pipeline: a split as a `tf.data.Dataset` of batches.

The order of examples is a function of (seed, epoch, position) alone. Nothing is remembered between steps, so starting
at any step costs the same, and every worker finds its own share of every batch by arithmetic.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from bmp.data.dataset import Split
from bmp.data.twins import augments, count_fixed, mix_up, mixup_alpha, run_fixed_twins, run_twins
from bmp.errors import BmpError

_EXAMPLES_A_READ = 512
_PREPARED_A_READ = 64
_BYTES_A_READ = 4 << 20
_BYTES_KEPT = 128 << 20
_BYTES_AHEAD = 64 << 20
_MOST_AHEAD = 16
_MOST_THREADS = 16
_DTYPES = {"class": tf.int64, "multilabel": tf.float32, "number": tf.float32, "tokens": tf.int32}


class Pipeline:
    """Batches of one split, read and transformed in parallel, ahead of the steps that consume them.

    Inputs come by name, or as the one tensor where the model has one input. Several small batches are read at a time:
    a call into Python costs more than a small batch does. Memory is bounded by the batches on their way, whatever the
    size of the data.

    Args:
        split: The examples.
        batch_size: Examples a step consumes, over all replicas.
        num_threads: Reads at a time; None allows as many as there are cores, from two to sixteen.
        keeps: Whether examples that are small altogether are read once and kept: numbers as they are, so that no step
            waits for Python; what has to be decoded, as the transforms before augmentation leave it.
    """

    def __init__(self, split: Split, batch_size: int, *, num_threads: int | None = None, keeps: bool = True) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self._threads = num_threads or min(max(len(os.sched_getaffinity(0)), 2), _MOST_THREADS)
        self._stretch = _count_batches(split, self.batch_size)
        self._failure: BmpError | None = None
        self._keeps = keeps
        self._kept: _Kept | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps one pass takes; the last one may be smaller."""
        return math.ceil(len(self.split) / self.batch_size)

    @property
    def _ahead(self) -> int:
        """Batches that wait for the steps to come: some megabytes of them."""
        return max(2, min(_MOST_AHEAD, _BYTES_AHEAD // (self.batch_size * _count_bytes(self.split))))

    @property
    def _keeps_batches(self) -> bool:
        """Whether all batches in order are small altogether."""
        return len(self.split) * _count_bytes(self.split) <= _BYTES_KEPT

    def weighs(self, num_shares: int) -> bool:
        """Returns whether batches for so many replicas carry weights: where some step has no equal shares."""
        return any(length % num_shares for length in (self.batch_size, len(self.split) % self.batch_size))

    def shuffled(
        self, seed: int, *, first_step: int = 0, num_shares: int = 1, first_share: int = 0, local_shares: int = 1
    ) -> tf.data.Dataset:
        """Returns endless batches of `(inputs, targets)`, each epoch in an order of its own.

        Every step is one global batch, dealt out in `num_shares` runs of neighbouring positions, a share each
        replica. This process yields, step after step, the shares from `first_share` on. Where shares differ in size
        (`weighs`), batches are `(inputs, targets, weights)`: float32 `(b,)`, what each example counts in the mean over
        the global batch. A replica that would have none gets one that counts 0: layers may rely on having examples.

        Args:
            seed: Of the order, and of augmentation.
            first_step: The step to start at, counted from 0 over all epochs.
            num_shares: Replicas in the whole cluster.
            first_share: Of this process.
            local_shares: Replicas of this process.

        Reference:
            A keyed permutation of positions, `tf.random.experimental.index_shuffle`: the cipher of Beaulieu et al.,
            SIMON and SPECK, 2013, walked until it falls into the range.
        """
        count, size = len(self.split), self.batch_size
        # The shares of one replica are alike in size from step to step, those of several need not be.
        stretch = self._stretch if local_shares == 1 else 1
        full = count // size  # steps of an epoch that have all their examples; at most one more has the rest
        reads = math.ceil(full / stretch)
        reads_per_epoch = reads + (count % size > 0)
        rest = tf.constant([full, 1, count % size], tf.int64)

        @tf.autograph.experimental.do_not_convert  # nor below: no Python here depends on values
        def place(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            read, share = element // local_shares, first_share + element % local_shares
            epoch, number = read // reads_per_epoch, read % reads_per_epoch
            first = number * stretch  # of the epoch's steps
            read_as = tf.stack([first, tf.minimum(full - first, stretch), tf.constant(size, tf.int64)])
            first, steps, length = tf.unstack(tf.where(number == reads, rest, read_as))
            starts = (first + tf.range(steps)) * size  # (k,)
            share_of_batch, weights = _take_share(length, share, num_shares)  # (b,), (b,)
            positions = tf.reshape(starts[:, None] + share_of_batch[None, :], [-1])
            shuffled = _shuffle(positions, seed, epoch, count)
            seen = epoch * count + positions  # examples consumed before each one, over all epochs
            seeds = tf.stack([seen % 2**31, (seen // 2**31 + seed) % 2**31], axis=1)
            return (
                tf.reshape(shuffled, [steps, -1]),
                tf.cast(tf.reshape(seeds, [steps, -1, 2]), tf.int32),
                tf.repeat(weights[None], steps, axis=0),
            )

        epoch, step = divmod(first_step, self.steps_per_epoch)
        first_read = epoch * reads_per_epoch + (reads if step == full else step // stretch)
        elements = tf.data.Dataset.range(first_read * local_shares, np.iinfo(np.int64).max)
        batches = self._read(elements, place, is_several=stretch > 1, weighs=self.weighs(num_shares), train=True)
        skip = 0 if step == full else step % stretch * local_shares
        return (batches.skip(skip) if skip else batches).prefetch(self._ahead)

    def numbers_at(self, seed: int, step: int) -> np.ndarray:
        """Returns the numbers in the source, int64 `(B,)`, of the examples that `shuffled` yields at a step."""
        epoch, step = divmod(step, self.steps_per_epoch)
        start = step * self.batch_size
        positions = tf.range(start, min(start + self.batch_size, len(self.split)), dtype=tf.int64)
        return self.split.index[_shuffle(positions, seed, tf.constant(epoch, tf.int64), len(self.split)).numpy()]

    def in_order(self, *, num_shares: int = 1, first_share: int = 0, local_shares: int = 1) -> tf.data.Dataset:
        """Returns batches of `(inputs, targets)`, once through the split, nothing augmented.

        Dealt out as `shuffled` does it, with weights where shares differ. A small split is read once and kept: it
        comes again after every epoch.
        """
        size, count = self.batch_size, len(self.split)

        @tf.autograph.experimental.do_not_convert  # nor below: no Python here depends on values
        def place(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            start = element // local_shares * size
            share_of_batch, weights = _take_share(
                tf.minimum(count - start, size), first_share + element % local_shares, num_shares
            )
            positions = (start + share_of_batch)[None]  # (1, b)
            return positions, tf.zeros([1, tf.shape(positions)[1], 2], tf.int32), weights[None]

        elements = tf.data.Dataset.range(self.steps_per_epoch * local_shares)
        batches = self._read(elements, place, is_several=False, weighs=self.weighs(num_shares), train=False)
        return batches.cache() if self._keeps_batches else batches.prefetch(self._ahead)

    @contextmanager
    def naming_failures(self) -> Iterator[None]:
        """Turns what TensorFlow makes of an error inside the pipeline back into that error."""
        try:
            yield
        except tf.errors.OpError:
            if self._failure is not None:
                raise self._failure from None
            raise

    def fetch(self, positions: np.ndarray) -> list[np.ndarray]:
        """Returns the features and targets of the examples at some positions of the split, arrays `(N, …)`."""
        source = self.split.source
        try:
            numbers = self.split.index[positions]
            columns = source.read(numbers)
            return [*(_to_bytes(columns[field.name]) for field in source.fields), source.read_targets(numbers)]
        except BmpError as error:
            self._failure = error
            raise

    def _keep(self) -> "_Kept | None":
        """Returns all examples where they are small altogether; None leaves them to `fetch`."""
        if self._kept is None and self._keeps:
            try:
                if _count_raw_bytes(self.split) <= _BYTES_KEPT:
                    self._kept = self._keep_raw()
                elif not math.isfinite(_count_raw_bytes(self.split)) and self._keeps_batches:
                    self._kept = self._keep_prepared()
            except (BmpError, tf.errors.OpError):  # a bad example ends the training when it comes to it, named then
                self._failure, self._keeps = None, False
        return self._kept

    def _keep_raw(self) -> "_Kept":
        *arrays, targets = self.fetch(np.arange(len(self.split)))
        columns = {field.name: array for field, array in zip(self.split.source.fields, arrays, strict=True)}
        with tf.device("/cpu:0"):
            return _Kept({name: tf.constant(array) for name, array in columns.items()}, tf.constant(targets), 0)

    def _keep_prepared(self) -> "_Kept":
        """Decodes all files once; what augmentation makes of them differs from epoch to epoch, and comes later."""
        split, count = self.split, len(self.split)

        @tf.autograph.experimental.do_not_convert
        def load(start: tf.Tensor) -> tuple[Any, tf.Tensor]:
            columns, targets = self._load(tf.range(start, tf.minimum(start + _PREPARED_A_READ, count)))
            return run_fixed_twins(split.preprocessing, columns), targets

        options = tf.data.Options()
        options.autotune.enabled = False
        with tf.device("/cpu:0"):
            starts = tf.data.Dataset.range(0, count, _PREPARED_A_READ)
            parts = list(starts.map(load, num_parallel_calls=self._threads, deterministic=True).with_options(options))
            columns = {name: tf.concat([part[name] for part, _ in parts], 0) for name in parts[0][0]}
            targets = tf.concat([part for _, part in parts], 0)
        return _Kept(columns, targets, count_fixed(split.preprocessing))

    def _load(self, positions: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns the features and targets of some examples, read by Python in the midst of a graph."""
        source, target = self.split.source, self.split.source.target
        dtypes = [_tensor_dtype(field.kind, field.dtype) for field in source.fields]
        *arrays, targets = tf.numpy_function(self.fetch, [positions], [*dtypes, _DTYPES[target.kind]], stateful=False)
        columns = {field.name: array for field, array in zip(source.fields, arrays, strict=True)}
        for field in source.fields:
            columns[field.name].set_shape((None, *field.shape))
        targets.set_shape((None, *_target_shape(self.split)))
        return columns, targets

    def _read(
        self, elements: tf.data.Dataset, place: Callable[..., Any], *, is_several: bool, weighs: bool, train: bool
    ) -> tf.data.Dataset:
        """Turns elements into batches, by way of their places: `(k, b)` positions, `(k, b, 2)` seeds, `(k, b)` weights.

        All in one function where that can be: to trace one takes longer than many a step.

        Args:
            elements: Integers.
            place: What is read for each.
            is_several: Whether k may be more than 1.
            weighs: Whether batches carry their weights.
            train: Whether examples are augmented and mixed, in an order that never repeats.
        """
        split = self.split
        target, preprocessing = split.source.target, split.preprocessing
        alpha = mixup_alpha(preprocessing) if train else 0.0
        augmented = train and augments(preprocessing)
        kept = self._keep() if train else None  # in_order keeps whole batches, which is faster still

        @tf.autograph.experimental.do_not_convert
        def load(element: tf.Tensor) -> tuple[Any, ...]:
            places, seeds, weights = place(element)
            positions, seeds = tf.reshape(places, [-1]), tf.reshape(seeds, [-1, 2])
            columns, targets = kept.take(positions) if kept is not None else self._load(positions)
            num_done = kept.num_done if kept is not None else 0
            inputs = run_twins(preprocessing, columns, seeds if augmented else None, num_done=num_done)
            inputs = {spec.name: inputs[spec.name] for spec in preprocessing.outputs}
            batch = (inputs, targets, seeds, tf.reshape(weights, [-1]))
            if is_several:
                batch = tf.nest.map_structure(lambda array: _deal(array, tf.shape(places)), batch)
            return batch if alpha else pack(*batch)

        @tf.autograph.experimental.do_not_convert
        def mix(inputs: dict[str, tf.Tensor], targets: tf.Tensor, seeds: tf.Tensor, weights: tf.Tensor) -> Any:
            inputs, targets = mix_up(inputs, targets, len(target.labels), alpha, seeds)
            return pack(inputs, targets, seeds, weights)

        def pack(inputs: dict[str, tf.Tensor], targets: tf.Tensor, seeds: tf.Tensor, weights: tf.Tensor) -> Any:
            packed = inputs if len(inputs) > 1 else next(iter(inputs.values()))
            return (packed, targets, weights) if weighs else (packed, targets)

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # dealt out above
        options.autotune.enabled = False  # all its numbers are given; to stop it takes a while, seconds at times
        batches = elements.map(load, num_parallel_calls=self._threads, deterministic=True)
        batches = batches.unbatch() if is_several else batches
        return (batches.map(mix) if alpha else batches).with_options(options)


@dataclass(frozen=True)
class _Kept:
    """All examples of a split in memory, by position.

    Args:
        columns: `(N, …)` by name.
        targets: `(N, …)`.
        num_done: Transforms that the columns have behind them.
    """

    columns: dict[str, tf.Tensor]
    targets: tf.Tensor
    num_done: int

    def take(self, positions: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns the columns and targets of some examples."""
        columns = {name: tf.gather(column, positions) for name, column in self.columns.items()}
        return columns, tf.gather(self.targets, positions)


def _target_shape(split: Split) -> tuple[int, ...]:
    """Returns the shape of one example's target."""
    target = split.source.target
    return {"class": (), "multilabel": (len(target.labels),)}.get(target.kind, (target.width,))


def _count_batches(split: Split, batch_size: int) -> int:
    """Returns how many batches are read at a time: a few hundred examples, and no more than some megabytes."""
    if any(field.kind in ("image", "audio", "text") for field in split.source.fields):
        return 1  # whose cost is in the transforms
    return max(1, min(_EXAMPLES_A_READ, _BYTES_A_READ // _count_bytes(split)) // batch_size)


def _count_bytes(split: Split) -> int:
    """Returns the bytes of one example as a model takes it."""
    specs = split.preprocessing.outputs
    return max(1, sum(np.dtype(spec.dtype).itemsize * math.prod(filter(None, spec.shape)) for spec in specs))


def _take_share(length: tf.Tensor, share: tf.Tensor, num_shares: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the places in a batch of one replica's share, int64 `(b,)`, and what each counts, float32 `(b,)`."""
    start, end = length * share // num_shares, length * (share + 1) // num_shares
    empty = tf.cast(start == end, tf.int64)  # then the first of the batch stands in, and counts nothing
    places = tf.range(start * (1 - empty), end * (1 - empty) + empty)
    weight = tf.cast(1 - empty, tf.float32) / tf.cast(length, tf.float32)
    return places, tf.fill(tf.shape(places), weight)


def _shuffle(positions: tf.Tensor, seed: int, epoch: tf.Tensor, count: int) -> tf.Tensor:
    """Returns where the order of an epoch has these positions, int64 `(N,)`."""
    return tf.random.experimental.index_shuffle(positions, tf.stack([tf.constant(seed, tf.int64), epoch]), count - 1)


def _count_raw_bytes(split: Split) -> float:
    """Returns the bytes of all features as a source reads them; infinity where they are files, texts or categories."""
    if any(field.kind not in ("tensor", "number") for field in split.source.fields):
        return math.inf
    sizes = (_tensor_dtype(field.kind, field.dtype).size * math.prod(field.shape) for field in split.source.fields)
    return len(split) * (sum(sizes) + 8 * max(split.source.target.width, len(split.source.target.labels)))


def _deal(array: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Turns `(k * b, …)` into `(k, b, …)`, given `(k, b)`."""
    dealt = tf.reshape(array, tf.concat([shape, tf.shape(array)[1:]], axis=0))
    dealt.set_shape((None, None, *array.shape[1:]))
    return dealt


def _tensor_dtype(kind: str, dtype: str) -> tf.DType:
    if kind == "tensor":
        return tf.as_dtype(dtype)
    return tf.float32 if kind == "number" else tf.string


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """Encodes texts: TensorFlow's strings are bytes."""
    if array.dtype == object and len(array) and isinstance(array[0], str):
        return np.array([text.encode() for text in array], dtype=object)
    return array
