"""A published version that answers requests: transforms, engine, labels; no web."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from bmp.artifact.manifest import check_file
from bmp.artifact.samples import SAMPLES_FILE, Samples, read_samples
from bmp.errors import ArtifactError, DataError, RequestError
from bmp.registry import Version
from bmp.signature import Arrays, TensorSpec
from bmp.transforms import Columns, Field
from bmp.transforms.image import MAX_PIXELS
from bmp.transforms.labels import Ranked, last_tokens, rank_binary, top_k
from bmp.transforms.tokens import PADDING
from serving import deadline
from serving.batching import Batcher, Plan, Policy, Together, Work, make_plan
from serving.codec.raw import count_pixels, make_examples
from serving.engines import ENGINES, Engine, check_saved_model, engine_for
from serving.models.description import Description, read_preprocessing

_MAX_BATCH_BYTES = 256 * 2**20
"""Of the tensors that one request becomes, and of those it is answered with: a short text may be a long answer."""

_MAX_ROWS = 100_000
"""Of raw features, each of which is read by itself."""


@dataclass(frozen=True, eq=False)
class LoadedModel(Description):
    """A version that answers requests, in the variant that its engine runs.

    Args:
        engine: Runs the model.
        together: Runs requests on it that are gathered.
        batcher: Gathers those of threads.
    """

    engine: Engine
    together: Together
    batcher: Batcher

    @property
    def plan(self) -> Plan:
        """How many examples go together, and how long they take."""
        return self.together.plan

    @cached_property
    def max_examples(self) -> int:
        """How many examples one batch may hold, so that what comes out of it fits into memory."""
        return _max_examples(self.signature.outputs)

    @cached_property
    def max_raw_examples(self) -> int:
        """How many examples of raw features one batch may hold.

        What they become has to fit into memory as well; and where each is read by itself, which tensors are not, a few
        million empty ones would take minutes.
        """
        limit = min(self.max_examples, _max_examples(self.signature.inputs))
        return limit if self.takes_raw_tensors else min(limit, _MAX_ROWS)

    def predict(self, inputs: Arrays) -> Arrays:
        """Checks a batch of the model's inputs against the signature and runs it, with others where that pays.

        Args:
            inputs: `(B, *shape)` by input name.

        Raises:
            SignatureError: The inputs do not fit.
            RequestError: There are too many examples.
            OverloadError: Too many examples wait for this model already.
            DeadlineError: The time that `serving.deadline` allows was over before it could run.
            InferenceError: The model answered with NaN or infinity.
        """
        self.check(inputs)
        work = Work(inputs, deadline.current(), deadline.cancellation())
        self.batcher.run(work)
        return work.result()

    def check(self, inputs: Arrays) -> int:
        """Checks a batch of the model's inputs and returns how many examples it has.

        Raises:
            SignatureError: The inputs do not fit.
            RequestError: There are too many examples.
        """
        count = self.signature.check_inputs(inputs)
        self.check_count(count)
        return count

    def check_count(self, count: int, *, raw: bool = False) -> None:
        """Checks how many examples a request has, as soon as that is known: before any work is done for each.

        Args:
            count: Of the request.
            raw: Whether they are raw features.

        Raises:
            RequestError: There are too many.
        """
        limit = self.max_raw_examples if raw else self.max_examples
        if count > limit:
            raise RequestError(
                f"The request holds {count:,} examples; this model takes at most {limit:,} at a time. Send fewer.",
                expected=f"at most {limit} examples",
                received=f"{count} examples",
            )

    def predict_raw(self, columns: Columns) -> Arrays:
        """Runs a batch of raw features through the transforms and the model.

        Args:
            columns: `(B, …)` by feature, as `Field.kind` describes them.

        Returns:
            `(B, *shape)` by output name; of a model of the next token only what comes after each text, `(B, V)`.

        Raises:
            RequestError: An example cannot be used, or there are too many.
            OverloadError: Too many examples wait for this model already.
            DeadlineError: The time that `serving.deadline` allows was over before it could run.
            InferenceError: The model answered with NaN or infinity.
        """
        inputs = self.prepare(columns)
        return self.conclude(self.predict(inputs), inputs)

    def prepare(self, columns: Columns) -> Arrays:
        """Returns what raw features become for the model, `(B, *shape)` by input name.

        Raises:
            RequestError: An example cannot be used, or there are too many.
        """
        assert self.preprocessing is not None, "only a model with transforms takes raw features"
        if self.takes_raw_tensors:
            self.asked.check_inputs(columns)
        self.check_count(len(next(iter(columns.values()))), raw=True)
        _check_pixels(columns, self.preprocessing.fields)
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused
                inputs = self.preprocessing.run(columns)
        except DataError as error:
            raise RequestError(error.message, expected=error.expected, received=error.received) from error
        if self.signature.objective == "next_token":
            _check_any_token(inputs)
        return inputs

    def conclude(self, outputs: Arrays, inputs: Arrays) -> Arrays:
        """Returns the answer to raw features, from what the model says to the inputs that they became."""
        return _pick_last(outputs, inputs) if self.signature.objective == "next_token" else outputs

    def check_top_k(self, k: int | None) -> None:
        """Checks how many labels a request wants.

        Raises:
            RequestError: There are not so many, or none at all.
        """
        if k is None:
            return
        if self.signature.objective == "regression" or not self.manifest.labels:
            raise RequestError(
                f"Model '{self.name}' has no labels: it answers with numbers. Leave top_k out.",
                expected="no top_k",
                received=f"top_k {k}",
            )
        count = len(self.manifest.labels)
        if not 1 <= k <= count:
            raise RequestError(
                f"top_k is {k}; expected 1 to {count}, the number of labels of model '{self.name}'.",
                expected=f"1 to {count}",
                received=str(k),
            )

    def rank_labels(self, outputs: Arrays, k: int, inputs: Arrays | None = None) -> list[Ranked]:
        """Returns the `k` likeliest labels of each example, the likeliest first.

        Args:
            outputs: Of `predict` or `predict_raw`.
            k: As `check_top_k` accepts it.
            inputs: Those of `predict`, which say where the tokens of each example end.
        """
        if self.signature.objective == "next_token" and inputs is not None:
            outputs = _pick_last(outputs, inputs)
        (probabilities,) = outputs.values()
        rank = rank_binary if self.signature.objective == "binary" else top_k
        return rank(probabilities, self.manifest.labels, k)

    def outline(self) -> Description:
        """Returns what stays known of the version when it is unloaded, of its recommended variant."""
        known = {each.name: getattr(self, each.name) for each in fields(Description)}
        return Description(**{**known, "variant": self.manifest.variant(self.manifest.recommended)})


def load_model(
    version: Version, variant: str | None = None, *, trust: bool = False, policy: Policy | None = None
) -> LoadedModel:
    """Loads a version: digests checked, engine warmed with its own samples and measured.

    Args:
        version: In the registry.
        variant: Which of its variants; None for the recommended one.
        trust: Whether the operator vouches for what the model does: then a SavedModel's graph is not looked into.
        policy: How requests are run together; by default as measured, in one thread at a time.

    Raises:
        ArtifactError: The version is damaged.
        UnsafeError: Loading it could do harm.
        ConfigError: It needs what is not installed here.
        SignatureError: Its own samples do not fit it.
        InferenceError: It answers one of them with NaN or infinity.
    """
    manifest = version.read_manifest()
    signature, preprocessing = manifest.parsed_signature(), read_preprocessing(manifest)
    chosen = manifest.variant(variant or manifest.recommended)
    file = chosen.file
    if file is None:
        raise ArtifactError(f"Of variant '{chosen.name}' of '{manifest.name}' no file is kept.")
    kind = engine_for(file)
    if kind == "savedmodel":
        path = check_saved_model(version.path, manifest, trust=trust)
    else:
        path = check_file(version.path, manifest, file)
    engine = ENGINES[kind](path, signature)
    check_file(version.path, manifest, SAMPLES_FILE)
    published = read_samples(version.path)
    samples = published.inputs
    signature.check_inputs(samples)
    engine.warm_up(samples)
    policy = policy or Policy()
    limit = min(_max_examples(signature.inputs), _max_examples(signature.outputs))
    plan = make_plan(f"{version.name}/{version.number}", engine, samples, limit, policy)
    together = Together(version.name, version.number, signature, engine, plan, policy)
    if preprocessing is not None:
        preprocessing.run(make_examples(preprocessing.fields))  # imports what decodes files, if it is installed
    trial = Work({name: array[:1] for name, array in samples.items()})  # as a request would be: numbers are finite
    Together(version.name, version.number, signature, engine, plan, replace(policy, observe=None)).run([trial])
    trial.result()
    return LoadedModel(
        version.name,
        version.number,
        manifest,
        chosen,
        signature,
        preprocessing,
        _first_of(published),
        engine,
        together,
        Batcher(together, policy),
    )


def _first_of(samples: Samples) -> Samples:
    """Returns the first sample, `(1, …)` each, and lets the others go."""
    inputs, outputs, raw = (
        {name: array[:1].copy() for name, array in each.items()}
        for each in (samples.inputs, samples.outputs, samples.raw)
    )
    return Samples(inputs, outputs, None, raw)


def _max_examples(specs: Iterable[TensorSpec]) -> int:
    """Returns how many examples of these tensors fit into _MAX_BATCH_BYTES, at least 1; a free size counts 1."""
    size = sum(np.dtype(spec.dtype).itemsize * math.prod(size or 1 for size in spec.shape) for spec in specs)
    return max(1, _MAX_BATCH_BYTES // size)


def _check_pixels(columns: Columns, fields: Iterable[Field]) -> None:
    """Bounds the images of a request together: each may be a small file that takes seconds to decode."""
    names = [field.name for field in fields if field.kind == "image"]
    pixels = sum(count_pixels(data) for name in names for data in columns[name])
    if pixels > MAX_PIXELS:
        raise RequestError(
            f"The images of the request have {pixels:,} pixels; expected at most {MAX_PIXELS:,} in all. Send fewer or "
            "smaller ones.",
            expected=f"at most {MAX_PIXELS} pixels",
            received=f"{pixels} pixels",
        )


def _check_any_token(inputs: Arrays) -> None:
    """Raises where there is nothing that a token could come after."""
    (tokens,) = inputs.values()  # (B, T)
    empty = ~(tokens != PADDING).any(axis=1)
    if empty.any():
        raise RequestError(
            f"The text of example {int(empty.argmax())} is empty; expected at least one token to go on from.",
            expected="a text",
            received="an empty text",
        )


def _pick_last(outputs: Arrays, inputs: Arrays) -> Arrays:
    """Returns what comes after the last token of each example: `(B, T, V)` becomes `(B, V)`."""
    (tokens,) = inputs.values()
    positions = last_tokens(tokens)
    return {name: array[np.arange(len(array)), positions] for name, array in outputs.items()}
