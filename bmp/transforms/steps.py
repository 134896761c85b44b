"""TRANSFORMS: the steps there are, and how a recipe or a manifest names them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from bmp.catalog import Catalog
from bmp.errors import ConfigError, suggest
from bmp.transforms.audio import LogMel
from bmp.transforms.augment import Augment
from bmp.transforms.base import Field, Fields, Step
from bmp.transforms.categories import OneHot, Vocabulary
from bmp.transforms.fill import Fill
from bmp.transforms.image import Image
from bmp.transforms.tabular import Join, MinMax, Standardise
from bmp.transforms.text import Tokenize

TRANSFORMS: Catalog[type[Step]] = Catalog(
    "transform",
    {
        "augment": Augment,
        "fill": Fill,
        "image": Image,
        "join": Join,
        "log_mel": LogMel,
        "min_max": MinMax,
        "one_hot": OneHot,
        "standardise": Standardise,
        "tokenize": Tokenize,
        "vocabulary": Vocabulary,
    },
)

_ADVICE = {
    "image": "{{kind: image, field: {name}, height: 64, width: 64}}",
    "audio": "{{kind: log_mel, field: {name}, seconds: 1.0}}",
    "text": "{{kind: tokenize, field: {name}, tokenizer: words, length: 64, vocabulary_size: 10000}}",
    "category": "{{kind: one_hot, fields: [{name}]}}",
}


def build_steps(config: Literal["auto"] | Sequence[Mapping[str, Any]], fields: Iterable[Field]) -> tuple[Step, ...]:
    """Builds the steps of a recipe, fitted only where it gives what would be fitted.

    Args:
        config: `{kind: …, …}` each; or `auto`: tensors stay as they are, numbers are filled with their mean and
            standardised, categories one-hot encoded, and both joined to one input `features`.
        fields: The raw features.

    Raises:
        UnknownNameError: No transform has a kind that is given.
        ConfigError: A setting is wrong, the steps do not fit the features, or leave one that no model can take.
    """
    raw = {field.name: field for field in fields}
    steps = _choose_steps(raw) if config == "auto" else tuple(_build_step(step) for step in config)
    check_inputs(plan_steps(steps, raw))
    return steps


def plan_steps(steps: Iterable[Step], fields: Fields) -> Fields:
    """Returns what stands after all steps.

    Raises:
        ConfigError: A step does not fit what stands before it.
    """
    for step in steps:
        fields = step.plan(fields)
    return fields


def check_inputs(fields: Fields) -> None:
    """Checks that a model can take what stands after all steps.

    Raises:
        ConfigError: A feature is no number and no tensor.
    """
    for field in fields.values():
        if field.kind not in ("number", "tensor"):
            advice = _ADVICE[field.kind].format(name=field.name)
            raise ConfigError(
                f"The feature '{field.name}' is of kind {field.kind}, which no model takes as it is, and no transform "
                f"changes it. Add a line to data.transforms, such as: - {advice}",
                expected="a transform of it",
                received=field.kind,
            )


def read_step(settings: Mapping[str, Any]) -> Step:
    """Returns the step that settings describe, `kind` among them.

    Raises:
        UnknownNameError: No transform has this kind.
        ValidationError: A setting is unknown, missing or wrong.
    """
    return TRANSFORMS[settings["kind"]].model_validate(dict(settings))


def _build_step(settings: Mapping[str, Any]) -> Step:
    if not isinstance(settings.get("kind"), str):
        known = ", ".join(sorted(TRANSFORMS))
        raise ConfigError(
            f"A transform needs its kind, one of {known}, but {dict(settings)!r} has none.",
            expected=f"kind: one of {known}",
            received=repr(dict(settings)),
        )
    try:
        return read_step(settings)
    except ValidationError as error:
        raise _explain(error, settings["kind"]) from error


def _explain(error: ValidationError, kind: str) -> ConfigError:
    """Says the first problem in one sentence; an unknown key goes first, it may be the one that is missing."""
    problem = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    # Of a choice between types, pydantic names the type as well: a key is a word, a position a number.
    key = str(problem["loc"][0]) if problem["loc"] else ""
    known = [name for name in TRANSFORMS[kind].model_fields if name != "kind"]
    if problem["type"] == "extra_forbidden":
        return ConfigError(
            f"The transform '{kind}' takes no argument '{key}'; it takes {', '.join(known)}.{suggest(key, known)}",
            expected=", ".join(known),
            received=key,
        )
    if problem["type"] == "missing":
        return ConfigError(f"The transform '{kind}' needs the argument '{key}'.", expected=key, received="nothing")
    if problem["type"] == "value_error":
        detail = str(problem["ctx"]["error"]).rstrip(".")
        return ConfigError(f"The transform '{kind}': {detail}.", expected=detail)
    detail = problem["msg"][0].lower() + problem["msg"][1:]
    return ConfigError(
        f"The transform '{kind}': argument '{key}' is {problem['input']!r}, but {detail}.",
        expected=detail,
        received=repr(problem["input"]),
    )


def _choose_steps(fields: Fields) -> tuple[Step, ...]:
    numbers = tuple(name for name, field in fields.items() if field.kind == "number")
    categories = tuple(name for name, field in fields.items() if field.kind == "category")
    steps: list[Step] = []
    if numbers:
        steps += [Fill(fields=numbers), Standardise(fields=numbers)]
    if categories:
        steps.append(OneHot(fields=categories))
    if numbers or categories:
        steps.append(Join(fields=tuple(name for name in fields if name in numbers + categories)))
    return tuple(steps)
