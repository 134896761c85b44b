"""The workbench: makes what chains yield, each stage that several share once, and keeps it for the next call."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bmp
from bmp.artifact.h5 import read_h5, write_h5
from bmp.artifact.litert import Storage
from bmp.compression.chain import Chain, Step
from bmp.compression.legalise.legal import legalise
from bmp.compression.technique import Form, Pattern, Stage, Workshop
from bmp.config import Recipe
from bmp.errors import BmpError, CheckpointError, ExportError, TrainingError
from bmp.signature import Signature
from bmp.training.copies import digest_weights
from bmp.training.distillation import Distillation
from bmp.training.history import History
from bmp.training.precision import full_float32

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.training import Trainer

_FORM_FILE = "form.json"
_MODEL_FILE = "model.h5"
_TRAININGS = 20
"""Whole fine-tunings that a search takes, about."""
_PROVEN_ON = 32
"""Training examples that rewrites are proven on."""


@dataclass(frozen=True)
class Made:
    """What was made of a chain.

    Args:
        chain: Of it.
        form: The model and how it is to be exported; None where the chain cannot be carried out.
        epochs: Of fine-tuning, those of stages that other chains share included.
        failure: Why there is no form; one sentence.
    """

    chain: Chain
    form: Form | None
    epochs: int = 0
    failure: str | None = None


class Workbench:
    """Carries chains out, from the same model, on the same data.

    Args:
        model: Uncompressed; it is not touched.
        workshop: What techniques work with.
        base: Digest of everything besides the chain that a result depends on.
        directory: Where stages are kept for a later call; None keeps them in memory.
        legalise: Rewrites a model, output for output, for techniques that need another form of its layers; returns it
            with a sentence for each rewrite.
    """

    def __init__(
        self,
        model: "keras.Model",
        workshop: Workshop,
        *,
        base: str,
        directory: Path | None = None,
        legalise: "Callable[[keras.Model], tuple[keras.Model, tuple[str, ...]]] | None" = None,
    ) -> None:
        self.workshop = workshop
        self.base = base
        self.epoch_s: float | None = None
        """Seconds that an epoch of fine-tuning has taken, the slowest kind of those tried; None before the first."""
        self._directory = directory
        self.history = History()
        """Every epoch of fine-tuning, in the order in which it was done."""
        self._kept: dict[str, Form] = {}
        self._stages: dict[str, list[str]] = {}
        self._original = Form(model)
        self._legalise = legalise
        self._rewritten: Form | None = None

    @property
    def original(self) -> "keras.Model":
        """The uncompressed model."""
        return self._original.model

    def make_all(self, chains: Sequence[Chain]) -> list[Made]:
        """Carries several chains out; see `make`."""
        return [self.make(chain) for chain in chains]

    def make(self, chain: Chain, share: float = 1.0) -> Made:
        """Carries a chain out.

        Args:
            chain: What to do.
            share: Of the epochs that each fine-tuning would have; at least one is left.

        Raises:
            CheckpointError: The disk is full.
            StoppedError: The process was asked to stop.
        """
        whole = self.at_share(chain, share)
        epochs = sum(_epochs_of(step, self.workshop) for step in whole.steps)
        try:
            return Made(chain, self._form(whole), epochs)
        except CheckpointError:  # the disk is full: nothing more can be made
            raise
        except (ExportError, TrainingError) as error:
            return Made(chain, None, epochs, error.message)

    def at_share(self, chain: Chain, share: float) -> Chain:
        """Returns a chain with its fine-tunings shortened, every number of epochs written down."""
        return Chain(tuple(self._shorten(step, share) for step in chain.steps))

    def forecast_s(self, chain: Chain, share: float) -> float:
        """Returns how many seconds the stages of a chain will take that are not there yet; 0 before one was timed."""
        whole, missing = self.at_share(chain, share), 0
        for prefix in whole.prefixes():
            if not self._is_kept(prefix):
                missing += _epochs_of(prefix.steps[-1], self.workshop)
        return missing * (self.epoch_s or 0.0)

    def fit_share(self, time_s: float | None) -> float:
        """Returns the share of all epochs that leaves time for enough fine-tunings; 1 without a limit."""
        whole_s = (self.epoch_s or 0.0) * self.workshop.epochs
        if time_s is None or not whole_s:
            return 1.0
        return min(1.0, time_s / (_TRAININGS * whole_s))

    def digest(self, chain: Chain, share: float = 1.0) -> str:
        """Returns what the result of a chain is found by again."""
        return self.at_share(chain, share).digest(self.base)

    def _shorten(self, step: Step, share: float) -> Step:
        technique = step.build()
        epochs = max(1, round(_epochs_of(step, self.workshop) * share))
        return Step(step.name, {**step.args, **technique.at_epochs(epochs)})

    def _form(self, chain: Chain) -> Form:
        if not chain.steps:
            return self._original
        kept = self._recall(chain)
        if kept is not None:
            return kept
        before = Chain(chain.steps[:-1])
        technique = chain.steps[-1].build()
        form = self._form(before)
        if _works_on_weights(chain.steps[-1]) and not any(map(_works_on_weights, before.steps)):
            form = self._rewrite(form)
        began = time.perf_counter()
        made = technique.apply(form, replace(self.workshop, stage=self._stage_of(chain)))
        if technique.trains:
            new = list(made.history)[len(form.history) :]
            self.history.extend(History(new))
            epochs = max(1, len(new))
            self.epoch_s = max(self.epoch_s or 0.0, (time.perf_counter() - began) / epochs)
        self._remember(chain, made)
        return made

    def _stage_of(self, chain: Chain) -> str:
        """Returns what a fine-tuning is called; two that differ in their epochs alone have different names."""
        digest = chain.digest(self.base)
        namesakes = self._stages.setdefault(chain.name, [])
        if digest not in namesakes:
            namesakes.append(digest)
        number = namesakes.index(digest) + 1
        return chain.name if number == 1 else f"{chain.name}-{number}"

    def _rewrite(self, form: Form) -> Form:
        """Returns a form whose layers techniques know; that of the original is made once."""
        if self._legalise is None:
            return form
        if form is self._original and self._rewritten is not None:
            return self._rewritten
        model, notes = self._legalise(form.model)
        rewritten = replace(form, model=model, notes=(*form.notes, *notes))
        if form is self._original:
            self._rewritten = rewritten
        return rewritten

    # === What is kept ===

    def _is_kept(self, chain: Chain) -> bool:
        digest = chain.digest(self.base)
        return digest in self._kept or (self._directory is not None and (self._directory / digest).is_dir())

    def _recall(self, chain: Chain) -> Form | None:
        digest = chain.digest(self.base)
        if digest in self._kept:
            return self._kept[digest]
        if self._directory is None or not (self._directory / digest).is_dir():
            return None
        return read_form(self._directory / digest)

    def _remember(self, chain: Chain, form: Form) -> None:
        """Keeps a form, whole or not at all. How a file is stored costs nothing to find again."""
        if not chain.steps[-1].build().trains:
            return
        digest = chain.digest(self.base)
        if self._directory is None or form.storage.is_trained:  # quantizers of TF-MOT are read back by nobody
            self._kept[digest] = form
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=self._directory, prefix=".staging-"))
        try:
            write_form(form, self.workshop.trainer.data.signature, staging)
            staging.replace(self._directory / digest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def open_workbench(
    model: "keras.Model", recipe: Recipe, trainer: "Trainer", directory: Path | None = None
) -> Workbench:
    """Returns the workbench that a recipe asks for, with a model that it has trained.

    Args:
        model: Uncompressed.
        recipe: Of which `compress` counts.
        trainer: That trained the model, or one like it.
        directory: Where stages are kept for a later call; None keeps them in memory.
    """
    config, signature = recipe.compress, trainer.data.signature
    distillation: dict[str, Any] = {}
    if config.distill is not None:
        distillation = {"teacher": model, "distillation": Distillation(**config.distill.model_dump())}
    whole = -(-recipe.train.steps // trainer.steps_per_epoch) if recipe.train.steps else recipe.train.epochs
    workshop = Workshop(
        trainer,
        config.epochs or max(1, whole // 2),
        config.learning_rate or recipe.train.learning_rate,
        recipe.seed,
        distillation,
    )
    examples = trainer.data.train.take(slice(0, _PROVEN_ON)).load().inputs

    def rewrite(given: "keras.Model") -> tuple["keras.Model", tuple[str, ...]]:
        with full_float32():
            legal = legalise(given, signature, examples=examples)
        done = [f"{step.name} rewrote {', '.join(step.layers)}." for step in legal.steps if step.layers]
        return legal.model, (*done, *legal.notes)

    base = {
        "weights": digest_weights(model.get_weights()),
        "data": trainer.data.digest,
        "recipe": recipe.model_dump(mode="json", include={"seed", "data", "train"}),
        "learning_rate": workshop.learning_rate,
        "distill": None if config.distill is None else config.distill.model_dump(mode="json"),
        "code": bmp.__version__,
    }
    digest = hashlib.sha256(json.dumps(base, sort_keys=True).encode()).hexdigest()
    return Workbench(model, workshop, base=digest, directory=directory, legalise=rewrite)


def write_form(form: Form, signature: Signature, directory: Path) -> None:
    """Writes a form whose model is a plain functional one; `read_form` reads it."""
    write_h5(form.model, signature, directory / _MODEL_FILE)
    facts = {
        "storage": asdict(form.storage),
        "patterns": [asdict(pattern) for pattern in form.patterns],
        "history": form.history.to_json(),
        "notes": form.notes,
    }
    (directory / _FORM_FILE).write_text(json.dumps(facts), encoding="utf-8")


def read_form(directory: Path) -> Form:
    """Reads what `write_form` wrote.

    Raises:
        BmpError: It is damaged.
    """
    try:
        facts: dict[str, Any] = json.loads((directory / _FORM_FILE).read_bytes())
        model = read_h5(directory / _MODEL_FILE)
        storage = Storage(**facts["storage"] | {"float_layers": tuple(facts["storage"]["float_layers"])})
        patterns = tuple(Pattern(**pattern) for pattern in facts["patterns"])
        return Form(model, storage, patterns, History.from_json(facts["history"]), tuple(facts["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BmpError(f"{directory} holds no model that can be read ({error}); remove it and start again.") from error


def _works_on_weights(step: Step) -> bool:
    return Stage.ZEROS <= step.build().stage <= Stage.TRAINED


def _epochs_of(step: Step, workshop: Workshop) -> int:
    technique = step.build()
    if not technique.trains:
        return 0
    return int(technique.settings().get("epochs") or workshop.epochs)
