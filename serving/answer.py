"""From what a request holds to what a model answers: one set of rules, whichever door the request came in by."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from bmp.signature import Arrays, TensorSpec
from bmp.transforms import Columns, Field
from bmp.transforms.labels import Ranked
from serving.codec.json import Request
from serving.codec.rows import count_examples, holds_rows, to_columns
from serving.models.description import Description
from serving.models.model import LoadedModel


class Answer(NamedTuple):
    """What a model says to a batch.

    Args:
        model: Which one.
        outputs: `(B, *shape)` by output name.
        top_k: The likeliest labels of each example, if they were wanted.
    """

    model: LoadedModel
    outputs: Arrays
    top_k: list[Ranked] | None = None


def inputs_of(model: Description) -> Sequence[TensorSpec | Field]:
    """Returns what a protocol of tensors says that a model takes: raw features where it takes them, else its inputs."""
    if model.features is not None and not model.takes_raw_tensors:
        return model.features.fields
    return model.asked.inputs


def outputs_of(model: Description) -> Sequence[TensorSpec]:
    """Returns what a model answers to `inputs_of`: of a text's next token only what comes after its end."""
    outputs = model.signature.outputs
    if model.features is None or model.signature.objective != "next_token":
        return outputs
    return [replace(spec, shape=spec.shape[1:]) for spec in outputs]


class Question(NamedTuple):
    """What is to be run.

    Args:
        model: Is asked.
        inputs: `(B, *shape)` by name of the model's inputs; `LoadedModel.check` is still to come.
        top_k: How many labels are wanted, if any.
        is_raw: Whether the inputs were made of raw features.
    """

    model: LoadedModel
    inputs: Arrays
    top_k: int | None = None
    is_raw: bool = False

    def answer(self) -> Answer:
        """Asks the model, and waits for it.

        Raises:
            BmpError: Whatever `LoadedModel.predict` has to say.
        """
        return self.conclude(self.model.predict(self.inputs))

    def conclude(self, outputs: Arrays) -> Answer:
        """Returns the answer that these outputs of the model are."""
        model, inputs, k, is_raw = self
        if is_raw:
            outputs = model.conclude(outputs, inputs)
        if k is None:
            return Answer(model, outputs)
        return Answer(model, outputs, model.rank_labels(outputs, k, None if is_raw else inputs))


def ask_json(model: LoadedModel, request: Request) -> Question:
    """Reads inputs as JSON gave them, ready tensors or rows of raw features.

    Raises:
        SignatureError: They are neither.
        RequestError: An example cannot be used, or there are too many, or not so many labels.
    """
    features, names = model.features, [spec.name for spec in model.signature.inputs]
    count = count_examples(request.inputs)
    model.check_count(count, raw=model.takes_raw_tensors)
    if features is not None and holds_rows(request.inputs, features, names, request.key):
        model.check_count(count, raw=True)
        return ask_features(model, to_columns(request.inputs, features, request.key), request.top_k)
    return ask_tensors(model, request.to_arrays(model.asked), request.top_k)


def ask_tensors(model: LoadedModel, inputs: Arrays, top_k: int | None = None) -> Question:
    """Reads tensors as `LoadedModel.asked` describes them, which some models take through their transforms.

    Args:
        model: Is asked.
        inputs: `(B, *shape)` by input name.
        top_k: How many labels are wanted, if any.

    Raises:
        SignatureError: They do not fit.
        RequestError: There are too many examples, or not so many labels.
    """
    if model.takes_raw_tensors:
        return ask_features(model, inputs, top_k)
    model.check_top_k(top_k)
    return Question(model, inputs, top_k)


def ask_features(model: LoadedModel, columns: Columns, top_k: int | None = None) -> Question:
    """Reads raw features.

    Args:
        model: Is asked.
        columns: `(B, …)` by feature.
        top_k: How many labels are wanted, if any.

    Raises:
        RequestError: An example cannot be used, there are too many, or not so many labels.
    """
    model.check_top_k(top_k)
    return Question(model, model.prepare(columns), top_k, is_raw=True)
