"""What is known of a version before it runs, and after: enough to tell people and programs how to ask it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bmp.artifact.manifest import Manifest, Variant
from bmp.artifact.samples import Samples
from bmp.errors import ArtifactError
from bmp.signature import Signature, TensorSpec
from bmp.transforms import Preprocessing
from serving.codec.npy import NPY
from serving.codec.raw import JSON, content_types
from serving.codec.rows import Features


@dataclass(frozen=True, eq=False)
class Description:
    """A version as its manifest tells of it.

    Args:
        name: Of the model.
        version: Its number.
        manifest: Of the version.
        variant: Which of its variants is meant.
        signature: What that takes and returns.
        preprocessing: From raw features to the inputs; None where clients send ready tensors.
        example: One of the version's samples, for whoever wants to see what goes in and what comes out.
    """

    name: str
    version: int
    manifest: Manifest
    variant: Variant
    signature: Signature
    preprocessing: Preprocessing | None
    example: Samples

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

    @cached_property
    def content_types(self) -> tuple[str, ...]:
        """What a body of `POST /predict` may come as."""
        takes_array = len(self.asked.inputs) == 1 and (self.features is None or self.takes_raw_tensors)
        return (JSON, *content_types(self.features), *([NPY] if takes_array else []))

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


def read_description(name: str, version: int, manifest: Manifest) -> Description:
    """Returns what a manifest tells of a version, its recommended variant; zeros stand for a sample.

    Args:
        name: Of the model.
        version: Its number.
        manifest: Of the version.

    Raises:
        ArtifactError: What it says does not fit together.
        SignatureError: The signature in it is none.
    """
    signature = manifest.parsed_signature()
    zeros = {spec.name: _make_zeros(spec) for spec in signature.inputs}
    variant = manifest.variant(manifest.recommended)
    preprocessing = read_preprocessing(manifest)
    return Description(name, version, manifest, variant, signature, preprocessing, Samples(zeros, {}, None))


def read_preprocessing(manifest: Manifest) -> Preprocessing | None:
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


def _make_zeros(spec: TensorSpec) -> np.ndarray:
    """Returns one example, `(1, *shape)`; a free size is 1."""
    return np.zeros((1, *(size or 1 for size in spec.shape)), spec.dtype)
