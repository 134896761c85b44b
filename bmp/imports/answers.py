"""What the two children answer: checked here, because what they read may have taken them over."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from bmp.artifact.manifest import Measurement
from bmp.errors import ArtifactError
from bmp.imports.sandbox import clean
from bmp.signature import Signature

Form = Literal["saved_model", "h5", "litert"]
Text = Annotated[str, AfterValidator(clean)]
_MAX_NAME_LENGTH = 256


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Converted(_Answer):
    """What `convert` returns."""

    format: Text
    engine: Text
    signature: dict[str, Any]
    labels: tuple[Text, ...]
    samples: Text
    guessed: bool
    written: tuple[Form, ...]
    left_out: dict[Form, Text]


class Proven(_Answer):
    """What `measure` returns."""

    served: Literal["saved_model", "litert"]
    differences: dict[Form, FiniteFloat]
    left_out: dict[Form, Text]
    measured: Measurement


Kind = TypeVar("Kind", bound=_Answer)


def read_answer(kind: type[Kind], answer: dict[str, Any]) -> Kind:
    """Returns an answer as what it should be.

    Raises:
        ArtifactError: It is something else.
    """
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise ArtifactError(
            f"The reader of the file gave an answer that makes no sense ('{clean(where)}': {problem['msg']}); the file "
            "is damaged, or made to do harm."
        ) from error


def read_signature(converted: Converted) -> Signature:
    """Returns the signature of what was converted.

    Raises:
        ArtifactError: A name in it cannot be shown.
    """
    signature = Signature.from_dict(converted.signature)
    for spec in (*signature.inputs, *signature.outputs):
        if not spec.name or clean(spec.name) != spec.name or len(spec.name) > _MAX_NAME_LENGTH:
            raise ArtifactError(
                f"The model calls a tensor {spec.name[:80]!r}; expected a name of 1 to {_MAX_NAME_LENGTH} characters "
                "that can be shown."
            )
    return signature
