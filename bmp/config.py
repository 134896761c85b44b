"""A recipe written down: pydantic models, YAML in, overrides, resolved YAML out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from bmp.durations import read_duration
from bmp.errors import ConfigError, UnknownNameError, suggest
from bmp.names import check_model_name

RECIPES_DIR = Path(__file__).parent / "recipes"

Fraction = Annotated[float, Field(gt=0, lt=1)]


def _is_duration(text: str) -> str:
    read_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_is_duration)]
"""`3 epochs`, `500 steps`, `10 percent`, `30 seconds`: see bmp.durations."""


class Section(BaseModel):
    """Base of every section: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SplitConfig(Section):
    """How examples are dealt out: by fractions that add up to 1, or by a column that names the split of each.

    Splits that the data itself comes in (a folder or a file each) stay as they are; the fractions say how much of the
    training split is held out for those that are missing.
    """

    column: str | None = None
    """A column of `train`, `validation` and `test`, in place of fractions; it is no feature then."""
    train: Fraction = 0.70
    """What the weights are fitted on, and what calibrates quantization."""
    validation: Fraction = 0.15
    """What choices are made on: the best epoch's look, the recommended variant."""
    test: Fraction = 0.15
    """Measured once, for the report."""

    @model_validator(mode="after")
    def _adds_up(self) -> "SplitConfig":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:g}; they must add up to 1")
        return self


class DataConfig(Section):
    """Where examples come from and how they are dealt out."""

    source: str
    """An entry of bmp.data.SOURCES."""
    args: dict[str, Any] = {}
    """Arguments of the source."""
    split: SplitConfig = SplitConfig()
    stratify: bool = True
    """Whether each class has the same share in every split."""
    objective: Literal["auto", "binary", "multiclass", "multilabel", "regression", "next_token"] = "auto"
    """What is learned, an entry of bmp.objectives.OBJECTIVES; auto follows from the target: two classes are binary."""
    transforms: Literal["auto"] | list[dict[str, Any]] = "auto"
    """Steps from raw features to the model's inputs, each `{kind: …}` of bmp.transforms.TRANSFORMS; auto fills,
    standardises and one-hot encodes columns of a table, and leaves tensors as they are."""
    on_bad_example: Literal["stop", "skip"] = "stop"
    """What an example that cannot be used does: end the run, or be left out and counted."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """With `skip`: the share of bad examples above which the run ends all the same."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["all"] = 64
    """Examples a step consumes, over all replicas; `all` is the whole training split."""


class ModelConfig(Section):
    """The network."""

    build: str
    """An entry of bmp.models.MODELS, or `file.py:function` for a network of your own; the file is looked for in the
    current directory, then beside the recipe."""
    args: dict[str, Any] = {}
    """Arguments of the builder."""


class DistributionConfig(Section):
    """Which devices and processes take part."""

    strategy: str = "auto"
    """An entry of bmp.distribution.STRATEGIES; auto decides from the devices and from what started this process."""
    cpu_replicas: int | None = Field(None, ge=1, le=64)
    """Replicas on the CPU, in place of GPUs; to see on a machine without them what several replicas do."""


class CheckpointConfig(Section):
    """When the state of a run is written down, so that it goes on from there."""

    every: Duration = "1 epoch"
    """How often, besides the end of each stage. Seconds are for one process only: several could not agree."""
    keep: int = Field(3, ge=2)
    """How many checkpoints of a stage are kept; at least two, so that a torn one has one before it."""


class EarlyStoppingConfig(Section):
    """Ends a training that no longer gets better."""

    patience: Duration
    """How long it may go on without a better validation; rounded up to whole validations."""
    metric: str = "auto"
    """A metric of the validation split such as `val_loss`; auto is the score of the objective."""
    min_change: float = Field(0.0, ge=0)
    """A smaller improvement is none."""


class TrainConfig(Section):
    """How the weights are fitted."""

    epochs: int = Field(20, ge=1)
    """Passes over the training split."""
    steps: int | None = Field(None, ge=1)
    """Steps in place of epochs, for data too large to be passed over."""
    validate_every: Annotated[int, Field(ge=1)] | Duration | None = None
    """How much lies between two validations, in steps or as a duration that divides the whole; by default one epoch,
    or with `steps` all of them."""
    optimizer: str = "adam"
    """An entry of bmp.training.OPTIMIZERS."""
    optimizer_args: dict[str, Any] = {}
    """Arguments of the optimizer."""
    learning_rate: float = Field(1e-3, gt=0)
    schedule: str = "constant"
    """An entry of bmp.training.SCHEDULES."""
    schedule_args: dict[str, Any] = {}
    """Arguments of the schedule."""
    accumulate: int = Field(1, ge=1)
    """Pieces in which a replica computes its share of a batch, one after the other: the gradient is that of the whole
    batch, the memory that of a piece."""
    weight_average: Fraction | None = None
    """Momentum of a moving average of the weights, such as 0.999, which they end as; null averages nothing."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the probability that goes from the true class to all classes alike, in training only."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    """What an example counts in the loss, by the name of its class (1 where none is given); balanced weighs each class
    by the inverse of its share."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """What layers compute in; weights stay float32. auto is mixed where the devices compute faster so."""
    jit: Literal["auto"] | bool = "auto"
    """Whether XLA compiles the step: seconds to a minute at the start, several times the speed for a Transformer.
    auto times a few steps of each, keeps the faster, and says so."""
    steps_per_execution: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Steps that TensorFlow runs in one call, which costs about a millisecond. Checkpoints and progress come between
    calls."""
    deterministic: bool = False
    """The same weights to the last bit, run after run and however often a run was interrupted, on the same machine.
    `jit: auto` is off then: a choice by the clock is not the same twice."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a batch does whose loss or gradient is not a finite number: end the run at the last good weights, or be
    left out, as if it were not there."""
    max_skipped: int = Field(3, ge=1)
    """With `skip`: how many batches may be left out before the run ends all the same."""
    early_stopping: EarlyStoppingConfig | None = None
    """Null trains to the end."""
    keep: Literal["last", "best"] = "last"
    """Which weights a training ends with: its last, or those of its best validation."""
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _divides(self) -> "TrainConfig":
        if isinstance(self.validate_every, int) and (self.steps is None or self.steps % self.validate_every):
            raise ValueError(f"validate_every is {self.validate_every}; it must divide steps, which is {self.steps}")
        return self

    @model_validator(mode="after")
    def _keeps_one(self) -> "TrainConfig":
        if self.keep == "best" and self.weight_average is not None:
            raise ValueError(
                "keep: best chooses among the weights as they were validated, weight_average ends as their mean; "
                "choose one of the two"
            )
        return self


class DistillConfig(Section):
    """The uncompressed model as the teacher of every fine-tuning."""

    temperature: float = Field(4.0, gt=0)
    """What the logits of both are divided by: higher tells more of the classes that are not the most probable."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of the teacher's word; the rest goes to the true targets."""
    features: dict[str, str] = {}
    """Layers of the model that are compressed, each with the layer of the teacher whose activations it learns."""
    feature_weight: float = Field(0.5, ge=0)
    """Weight of the features beside the loss."""


def _read_share(value: Any) -> Any:
    """Takes `0.5%` for 0.005."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(?:%|percent)\s*", value)):
        return float(match[1]) / 100
    return value


Share = Annotated[float, BeforeValidator(_read_share), Field(ge=0, lt=1)]
"""A number from 0 to 1, or a percentage as people write it: `0.5%`."""

ChainSpec = list[str | dict[str, dict[str, Any]]]
"""Techniques in order, each by name or as `{name: arguments}`; see bmp.compression.chain."""


class CompressConfig(Section):
    """Which compressed variants are made, and how much of the metric one may cost."""

    max_drop: Share = 0.01
    """The promise: how much worse than the uncompressed model a variant may be, in points of a metric that lies between
    0 and 1 (accuracy, F1, AUC, R²), in shares of its value otherwise (MAE, perplexity). `0.5%` is 0.005."""
    metric: str = "auto"
    """What the promise speaks of; auto is the score of the objective."""
    chains: list[ChainSpec] = [["dynamic"], ["int8"], [{"prune": {"sparsity": 0.8}}, "int8"]]
    """What is tried: one variant each."""
    time: Duration | None = None
    """How long bmp may search for better chains than those; null does not search."""
    goal: Literal["size", "latency", "balanced"] = "size"
    """What a recommended variant has least of: gzipped bytes, milliseconds at batch 1, or both alike."""
    techniques: list[str] | None = None
    """What a search may use, entries of bmp.compression.TECHNIQUES; null is all."""
    max_trials: int | None = Field(None, ge=1)
    """How many chains a search may try."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the training split in a fine-tuning that names none; null is half as many as training had."""
    learning_rate: float | None = Field(None, gt=0)
    """Of a fine-tuning that names none; null is that of the training."""
    distill: DistillConfig | None = None
    """Whether the uncompressed model teaches in every fine-tuning; `true` takes the defaults."""
    student: ModelConfig | None = None
    """A smaller network that a search may train in place of the model, with the model as its teacher."""
    accept: Literal["proven", "unproven"] = "proven"
    """What may be recommended: variants whose promise is proven on the test split, or also those for which it has too
    few examples; the manifest says which."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the proof, one-sided."""
    class_floor: Share | None = 0.05
    """How much less of any single class may be recognised; null sets no limit."""
    min_agreement: Share | None = None
    """Share of the examples on which a variant must decide as the uncompressed model does; null asks for none."""

    @property
    def time_s(self) -> float | None:
        """Seconds that a search may take; None as long as it needs, or where there is none."""
        return None if self.time is None else float(read_duration(self.time).amount)

    @field_validator("distill", mode="before")
    @classmethod
    def _takes_a_flag(cls, value: Any) -> Any:
        return ({} if value else None) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _takes_seconds(self) -> "CompressConfig":
        if self.time is not None and read_duration(self.time).unit != "seconds":
            raise ValueError(f"time is '{self.time}'; it must be of seconds, minutes or hours, such as 20m")
        return self


class PublishConfig(Section):
    """Where the finished version goes."""

    name: str
    """Name of the model in the registry."""
    root: str = "registry"
    """Directory of the registry."""

    @field_validator("name")
    @classmethod
    def _is_model_name(cls, name: str) -> str:
        return check_model_name(name)


class Recipe(Section):
    """One whole run, written down."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Fixes the split, the initial weights, the order of examples and the calibration examples."""
    data: DataConfig
    model: ModelConfig
    distribution: DistributionConfig = DistributionConfig()
    train: TrainConfig = TrainConfig()
    compress: CompressConfig = CompressConfig()
    publish: PublishConfig


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: `1e-3` is a number, a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses duplicate keys, of which plain YAML would keep the last."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = "is given twice" if isinstance(key, str) and key in seen else "is no text"
            if not isinstance(key, str) or key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' {problem}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would take for numbers."""


_FLOAT = ("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))
_Loader.add_implicit_resolver(*_FLOAT)
_Dumper.add_implicit_resolver(*_FLOAT)


def list_recipes() -> list[str]:
    """Returns the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a shipped recipe by name, or any recipe by path, and applies overrides.

    Args:
        name_or_path: `digits`, or a path that ends in `.yaml` or `.yml`.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: Unknown recipe, key or override, wrong type, values that contradict each other.
    """
    path = _find_recipe(name_or_path)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no recipe; expected sections such as data:, model: and publish:.")
    for override in overrides:
        _apply_override(tree, override)
    _find_functions(tree, path.parent)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _to_config_error(error, str(name_or_path)) from error


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Writes the resolved recipe, every default spelled out; `load_recipe` reads it."""
    path.write_text(dump_recipe(recipe), encoding="utf-8")


def dump_recipe(recipe: Recipe) -> str:
    """Returns what `write_recipe` writes."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False)


def _find_recipe(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"There is no recipe file {path}.", expected="a YAML file", received=str(path))
        return path
    known = list_recipes()
    if name_or_path not in known:
        raise UnknownNameError(
            f"No recipe is named '{name_or_path}'. Known: {', '.join(known)}, or a path to a .yaml file."
            f"{suggest(name_or_path, known)}",
            expected=f"one of {', '.join(known)}",
            received=name_or_path,
        )
    return RECIPES_DIR / f"{name_or_path}.yaml"


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    steps = key.split(".")
    if not equals or not all(steps):
        raise ConfigError(
            f"The override '{override}' is not of the form section.key=value, such as train.epochs=5.",
            expected="section.key=value",
            received=override,
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of the override '{override}' is not valid YAML: {_one_line(error)}.") from error
    section = tree
    for step in steps[:-1]:
        if section.get(step) is None:  # absent or null: an override below it brings the section into being
            section[step] = {}
        section = section[step]
        if not isinstance(section, dict):
            raise ConfigError(f"The override '{override}' reaches into '{step}', which is a value, not a section.")
    section[steps[-1]] = value


def _find_functions(tree: dict[str, Any], directory: Path) -> None:
    """Points `file.py:function` to the file beside the recipe, where the current directory has none."""
    sections: list[tuple[Any, str]] = [(tree.get("model"), "build")]
    if isinstance(tree.get("data"), dict):
        sections.append((tree["data"].get("args"), "function"))
    for section, key in sections:
        reference = section.get(key) if isinstance(section, dict) else None
        if not isinstance(reference, str) or ".py:" not in reference:
            continue
        beside = directory / reference
        if not Path(reference.rpartition(":")[0]).is_file() and Path(str(beside).rpartition(":")[0]).is_file():
            section[key] = str(beside)


def _to_config_error(error: ValidationError, recipe: str) -> ConfigError:
    """Says one problem of a validation in one sentence, with a guess for an unknown key.

    An unknown key goes first: where a key is missing as well, it is the one that was meant.
    """
    problem = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    where = ".".join(str(step) for step in problem["loc"])
    received = repr(problem["input"])
    received = received if len(received) <= 80 else received[:77] + "..."
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _keys_of(problem["loc"][:-1])
        section = ".".join(str(step) for step in problem["loc"][:-1]) or "the top level"
        return ConfigError(
            f"Recipe {recipe}: unknown key '{where}'; {section} knows {', '.join(known)}."
            f"{suggest(str(problem['loc'][-1]), known)}{more}",
            expected=", ".join(known),
            received=where,
        )
    if problem["type"] == "missing":
        return ConfigError(f"Recipe {recipe}: '{where}' is missing.{more}", expected=where, received="nothing")
    if problem["type"] == "value_error":
        detail = str(problem["ctx"]["error"]).rstrip(".")
        stop = "" if detail.endswith("?") else "."
        return ConfigError(f"Recipe {recipe}: {where}: {detail}{stop}{more}", expected=detail, received=received)
    detail = problem["msg"][0].lower() + problem["msg"][1:]
    return ConfigError(
        f"Recipe {recipe}: '{where}' is {received}, but {detail}.{more}", expected=detail, received=received
    )


def _keys_of(path: Sequence[str | int]) -> list[str]:
    section: type[BaseModel] = Recipe
    for step in path:
        annotation = section.model_fields[str(step)].annotation
        section = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return list(section.model_fields)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
