"""TensorFlow Serving's interface, however its messages travel: which model is meant, and what it answers."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bmp.errors import NotFoundError, RequestError
from bmp.transforms.labels import Ranked
from serving.answer import Answer, Question, ask_json, inputs_of, outputs_of
from serving.codec.json import Request
from serving.codec.tfserving import SIGNATURE_NAME, describe_signature, fold_examples
from serving.models.model import LoadedModel
from serving.models.versions import UNLOADED, VersionState
from serving.service import Service


class Target(NamedTuple):
    """What a request is for.

    Args:
        name: Of the model; None where it says none.
        number: Of the version, if it says one.
        alias: That names the version, if it says one; TensorFlow Serving calls it a label.
    """

    name: str | None
    number: int | None = None
    alias: str | None = None


def find_model(service: Service, target: Target, quality: str | None = None) -> LoadedModel:
    """Returns the model; an error begins as TensorFlow Serving's does, for programs that look for its words.

    Args:
        service: What serves.
        target: What the request is for.
        quality: Which variant is wanted; None for the recommended one.

    Raises:
        NotReadyError: It is still loading, or could not be loaded.
        NotFoundError: There is no such model, version or alias.
        RequestError: There is no name and several models are served.
    """
    name, number, alias = target
    try:
        return service.get(name, number, alias, quality)
    except NotFoundError as error:
        if alias is not None:
            missing = f"Unrecognized servable version label: {alias[:80]}"
        else:
            asked = (name or "")[:80]
            asked = f"Latest({asked})" if number is None else f"Specific({asked}, {number})"
            missing = f"Servable not found for request: {asked}"
        raise NotFoundError(f"{missing}. {error.message}", expected=error.expected, received=error.received) from error


def find_states(service: Service, target: Target) -> list[VersionState]:
    """Returns the state of every version, or of the one that is asked for; the newest first.

    Raises:
        NotReadyError: The model is still loading, or could not be loaded.
        NotFoundError: There is no such model, version or alias.
        RequestError: There is no name and several models are served.
    """
    name, number, alias = target
    name = service.get().name if name is None else name
    try:
        states = service.versions(name)
    except NotFoundError as error:
        missing = f"Could not find any versions of model {name[:80]}. {error.message}"
        raise NotFoundError(missing, expected=error.expected, received=error.received) from error
    found = [state for state in states if number in (None, state.number) and (alias is None or alias in state.aliases)]
    if not found:
        asked = f"version {number}" if alias is None else f"version label {alias[:80]}"
        known = ", ".join(" ".join([str(state.number), *state.aliases]) for state in states)
        raise NotFoundError(
            f"Could not find {asked} of model {name[:80]}. There is {known}.", expected=known, received=asked
        )
    return sorted(found, key=lambda state: -state.number)


def ask_classes(model: LoadedModel, examples: list[dict[str, Any]]) -> Question:
    """Reads a request for all labels of each example.

    Args:
        model: Is asked.
        examples: As `decode_examples` returns them.

    Raises:
        RequestError: The model has no labels, or an example cannot be used.
        SignatureError: The examples do not fit.
    """
    if model.signature.objective == "regression" or not model.manifest.labels:
        raise _wrong_verb(model, "classify", "a model with labels")
    return ask_json(model, replace(_fold(model, examples), top_k=len(model.manifest.labels)))


def classes_of(answer: Answer) -> list[Ranked]:
    """Returns all labels of each example, the likeliest first, from the answer to `ask_classes`."""
    assert answer.top_k is not None, "labels were asked for"
    return answer.top_k


def ask_values(model: LoadedModel, examples: list[dict[str, Any]]) -> Question:
    """Reads a request for one number for each example.

    Args:
        model: Is asked.
        examples: As `decode_examples` returns them.

    Raises:
        RequestError: The model does not answer one number, or an example cannot be used.
        SignatureError: The examples do not fit.
    """
    shapes = [spec.shape for spec in model.signature.outputs]
    if model.signature.objective != "regression" or shapes not in ([()], [(1,)]):
        raise _wrong_verb(model, "regress", "a model that answers one number for each example")
    return ask_json(model, _fold(model, examples))


def values_of(answer: Answer) -> np.ndarray:
    """Returns one number for each example, `(B,)`, from the answer to `ask_values`."""
    (values,) = answer.outputs.values()
    return values.reshape(-1)


def describe_states(states: list[VersionState]) -> dict[str, Any]:
    """Returns the JSON form of a GetModelStatusResponse."""
    return {
        "model_version_status": [
            {
                "version": str(state.number),
                "state": state.state,
                "status": {
                    "error_code": "OK" if state.error in (None, UNLOADED) else "UNKNOWN",
                    "error_message": state.error or "",
                },
            }
            for state in states
        ]
    }


def describe_signatures(model: LoadedModel) -> dict[str, Any]:
    """Returns the JSON form of a SignatureDefMap."""
    return {"signature_def": {SIGNATURE_NAME: describe_signature(inputs_of(model), outputs_of(model))}}


def _fold(model: LoadedModel, examples: list[dict[str, Any]]) -> Request:
    return fold_examples(examples, {item.name: item.shape for item in inputs_of(model)})


def _wrong_verb(model: LoadedModel, verb: str, wanted: str) -> RequestError:
    received = f"a {model.signature.objective} model"
    return RequestError(
        f"Model '{model.name}' cannot {verb}, which takes {wanted}; ask it with :predict.",
        expected=wanted,
        received=received,
    )
