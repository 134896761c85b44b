"""From what a request holds to what a model answers: one set of rules, whichever door the request came in by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bmp.signature import Arrays, TensorSpec
from bmp.transforms import Columns, Field
from bmp.transforms.labels import Ranked
from serving.codec.json import Request
from serving.codec.rows import holds_rows, to_columns
from serving.model import LoadedModel


@dataclass(frozen=True)
class Answer:
    """What a model says to a batch.

    Args:
        model: Which one.
        outputs: `(B, *shape)` by output name.
        top_k: The likeliest labels of each example, if they were wanted.
    """

    model: LoadedModel
    outputs: Arrays
    top_k: list[Ranked] | None = None


def inputs_of(model: LoadedModel) -> Sequence[TensorSpec | Field]:
    """Returns what a protocol of tensors says that a model takes: raw features where it takes them, else its inputs."""
    if model.features is not None and not model.takes_raw_tensors:
        return model.features.fields
    return model.asked.inputs


def outputs_of(model: LoadedModel) -> Sequence[TensorSpec]:
    """Returns what a model answers to `inputs_of`: of a text's next token only what comes after its end."""
    outputs = model.signature.outputs
    if model.features is None or model.signature.objective != "next_token":
        return outputs
    return [replace(spec, shape=spec.shape[1:]) for spec in outputs]


def answer_json(model: LoadedModel, request: Request) -> Answer:
    """Answers inputs as JSON gave them, ready tensors or rows of raw features.

    Raises:
        SignatureError: They are neither.
        RequestError: An example cannot be used, or there are too many.
        InferenceError: The model gave no usable answer.
    """
    features, names = model.features, [spec.name for spec in model.signature.inputs]
    if features is not None and holds_rows(request.inputs, features, names, request.key):
        return answer_features(model, to_columns(request.inputs, features, request.key), request.top_k)
    return answer_tensors(model, request.to_arrays(model.asked), request.top_k)


def answer_tensors(model: LoadedModel, inputs: Arrays, top_k: int | None = None) -> Answer:
    """Answers tensors as `LoadedModel.asked` describes them, which some models take through their transforms.

    Args:
        model: Answers.
        inputs: `(B, *shape)` by input name.
        top_k: How many labels are wanted, if any.

    Raises:
        SignatureError: They do not fit.
        RequestError: There are too many examples, or not so many labels.
        InferenceError: The model gave no usable answer.
    """
    if model.takes_raw_tensors:
        return answer_features(model, inputs, top_k)
    model.check_top_k(top_k)
    outputs = model.predict(inputs)
    return Answer(model, outputs, None if top_k is None else model.rank_labels(outputs, top_k, inputs))


def answer_features(model: LoadedModel, columns: Columns, top_k: int | None = None) -> Answer:
    """Answers raw features.

    Args:
        model: Answers.
        columns: `(B, …)` by feature.
        top_k: How many labels are wanted, if any.

    Raises:
        RequestError: An example cannot be used, there are too many, or not so many labels.
        InferenceError: The model gave no usable answer.
    """
    model.check_top_k(top_k)
    outputs = model.predict_raw(columns)
    return Answer(model, outputs, None if top_k is None else model.rank_labels(outputs, top_k))
