"""A published version that answers requests: transforms, engine, labels; no web."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from bmp.artifact.manifest import Manifest, Variant, check_file
from bmp.artifact.samples import SAMPLES_FILE, Samples, read_samples
from bmp.errors import ArtifactError, DataError, RequestError
from bmp.registry import Version
from bmp.signature import Arrays, Signature, TensorSpec
from bmp.transforms import Columns, Field, Preprocessing
from bmp.transforms.image import MAX_PIXELS
from bmp.transforms.labels import Ranked, last_tokens, rank_binary, top_k
from bmp.transforms.tokens import PADDING
from serving import deadline
from serving.batching import Batcher, Plan, Policy, Together, Work, make_plan
from serving.codec.npy import NPY
from serving.codec.raw import JSON, content_types, count_pixels, make_examples
from serving.codec.rows import Features
from serving.engines import ENGINES, Engine, check_saved_model, engine_for

_MAX_BATCH_BYTES = 256 * 2**20
"""Of the tensors that one request becomes, and of those it is answered with: a short text may be a long answer."""

_MAX_ROWS = 100_000
"""Of raw features, each of which is read by itself."""


@dataclass(frozen=True)
class LoadedModel:
    """A version that answers requests.

    Args:
        name: Of the model.
        version: Its number.
        manifest: Of the version.
        variant: Which of its variants the engine runs.
        signature: What the engine takes and returns.
        engine: Runs the model.
        together: Runs requests on it that are gathered.
        batcher: Gathers those of threads.
        preprocessing: From raw features to the inputs; None where clients send ready tensors.
        example: One of the version's samples, for whoever wants to see what goes in and what comes out.
    """

    name: str
    version: int
    manifest: Manifest
    variant: Variant
    signature: Signature
    engine: Engine
    together: Together
    batcher: Batcher
    preprocessing: Preprocessing | None = None
    example: Samples = field(default_factory=lambda: Samples({}, {}, None), compare=False)

    @cached_property
    def features(self) -> Features | None:
        """The raw features that clients may send in place of tensors."""
        return None if self.preprocessing is None else Features.of(self.preprocessing)

    @cached_property
    def asked(self) -> Signature:
        """What tensors in a request are: the raw features where all of these are tensors, else the model's inputs.

        Raw features and inputs may look alike, such as numbers before and after they are standardised; what a person
        has are the raw ones.
        """
        if not self.takes_raw_tensors:
            return self.signature
        assert self.preprocessing is not None
        raw = tuple(
            TensorSpec(field.name, field.dtype, field.shape, field.vocabulary) for field in self.preprocessing.fields
        )
        return replace(self.signature, inputs=raw)

    @cached_property
    def takes_raw_tensors(self) -> bool:
        """Whether tensors in a request go through transforms."""
        transforms = self.preprocessing
        return (
            transforms is not None
            and bool(transforms.steps)
            and all(field.kind == "tensor" for field in transforms.fields)
        )

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

    @cached_property
    def content_types(self) -> tuple[str, ...]:
        """What a body of `POST /predict` may come as."""
        takes_array = len(self.asked.inputs) == 1 and (self.features is None or self.takes_raw_tensors)
        return (JSON, *content_types(self.features), *([NPY] if takes_array else []))

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

    def describe(self) -> dict[str, Any]:
        """Returns what a client needs to know, in JSON's types."""
        return {
            "name": self.name,
            "version": self.version,
            "signature": self.manifest.signature,
            "objective": self.signature.objective,
            "labels": self.manifest.labels,
            "features": [] if self.features is None else self.features.describe(),
            "transforms": [] if self.preprocessing is None else [step.kind for step in self.preprocessing.steps],
            "content_types": list(self.content_types),
            "variant": self.variant.name,
            "metrics": self.variant.measured.model_dump(),
            "created": self.manifest.created.isoformat(),
        }


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
    signature, preprocessing = manifest.parsed_signature(), _read_preprocessing(manifest)
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
        engine,
        together,
        Batcher(together, policy),
        preprocessing,
        _first_of(published),
    )


def _first_of(samples: Samples) -> Samples:
    """Returns the first sample, `(1, …)` each, and lets the others go."""
    inputs, outputs, raw = (
        {name: array[:1].copy() for name, array in each.items()}
        for each in (samples.inputs, samples.outputs, samples.raw)
    )
    return Samples(inputs, outputs, None, raw)


def _read_preprocessing(manifest: Manifest) -> Preprocessing | None:
    """Returns the transforms of a model that takes raw features, None for one that takes tensors alone.

    Raises:
        ArtifactError: They do not lead to the model's inputs.
    """
    preprocessing = manifest.parsed_preprocessing()
    if preprocessing is None or not preprocessing.steps:
        return None
    if not preprocessing.is_fitted:
        raise ArtifactError(f"The manifest of '{manifest.name}' holds transforms that were never fitted.")
    found, wanted = (
        {spec.name: (spec.dtype, spec.shape) for spec in specs}
        for specs in (preprocessing.outputs, manifest.parsed_signature().inputs)
    )
    if found != wanted:
        raise ArtifactError(
            f"The transforms of '{manifest.name}' do not lead to the inputs of its signature.",
            expected=str(wanted),
            received=str(found),
        )
    return preprocessing


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
