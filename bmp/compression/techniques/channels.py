"""Channel and neuron removal: the least needed channels of every layer are taken out, and the rest is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from bmp.compression.channels.groups import ChannelMap, Group, check_functional, find_groups
from bmp.compression.channels.rules import has_rule, reads_all
from bmp.compression.channels.saliency import keep_best_units, weigh_by_magnitude, weigh_by_taylor
from bmp.compression.channels.shrink import check_removal, shrink
from bmp.compression.legalise.graph import rebuild
from bmp.compression.technique import Form, Stage, Support, Technique, Workshop
from bmp.errors import ConfigError, ExportError
from bmp.training.history import History

if TYPE_CHECKING:
    import tf_keras as keras

Share = Annotated[float, Field(ge=0, lt=1)]

_EXAMPLES = 512
"""Of the training split, that the Taylor score is averaged over."""
_BATCH = 32
_CHECKED = 32
"""Examples of the training split on which the smaller network is held against the larger one."""


@dataclass(frozen=True, kw_only=True)
class Channels(Technique):
    """Takes channels of convolutions and neurons of dense layers out, and fine-tunes what is left.

    The network becomes physically smaller: every file and every runtime gains, in bytes and in time. Channels that are
    added to each other go together; those of inputs and outputs stay, and those that reach a layer which may mix them.

    Args:
        remove: Share of the channels that goes; or one for each layer or group that is to lose any, by its name.
        spread: `even`: the same share of every group; `sensitive`: more of those that cost the score less, as measured
            before, so that `remove` is the mean.
        score: Which ones go: those with the smallest weights, or those without which the loss changes least.
        multiple: What is left of a group is a multiple of this: processors compute so many numbers at a time.
        skip: Layers whose channels stay.
        epochs: Of the fine-tuning.
        learning_rate: Of the fine-tuning.
    """

    stage: ClassVar[Stage] = Stage.NETWORK

    remove: Share | dict[str, Share] = 0.5
    spread: Literal["even", "sensitive"] = "even"
    score: Literal["magnitude", "taylor"] = "magnitude"
    multiple: PositiveInt = 4
    skip: list[str] = field(default_factory=list)
    epochs: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    def support(self, layer: Any) -> Support:
        """Returns whether channels of a layer can be removed, as far as the layer alone shows."""
        if type(layer).__name__ == "InputLayer":
            return Support("nothing", "it is an input")
        if not has_rule(layer):
            return Support("no", "channels are not followed through it: those that reach it stay")
        if not reads_all(layer):
            return Support("nothing", "it passes channels on")
        if layer.name in self.skip:
            return Support("no", "it is in skip")
        if not layer._outbound_nodes:
            return Support("nothing", "its channels are the output")
        return Support("applies")

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns a smaller network; see `Technique.apply`.

        Raises:
            ConfigError: `remove` or `skip` names a layer that the model has not, or one that cannot lose channels.
        """
        from bmp.training.callbacks import KeepBest

        check_functional(form.model)
        plain = rebuild(form.model)  # of this process alone, whatever the strategy
        if self.spread == "sensitive" and not isinstance(self.remove, Mapping):
            shares = workshop.share_out(plain, "channels", self.remove, by="macs")
            return replace(self, remove=shares, spread="even").apply(form, workshop)
        channels = find_groups(plain, self.skip)
        counts = self._count_kept(channels)
        kept = keep_best_units(channels, self._score(plain, channels, workshop), counts)
        small = shrink(plain, channels, kept)
        check_removal(plain, small, channels, kept, workshop.calibration(_CHECKED))
        with workshop.trainer.strategy.scope():
            model = rebuild(small)
        history = History()
        if model.trainable_weights:
            history = workshop.fine_tune(
                model,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                callbacks=[KeepBest(workshop.trainer.objective.score)],
            )
        notes = (*form.notes, *_say_obstacles(plain, channels), *self._say_small(channels, counts))
        return form.becomes(rebuild(model), history, notes=notes)

    def distinguishing(self) -> list[str]:
        """Returns the share, and the score where it is not the usual one."""
        share = f"{self.remove:g}" if isinstance(self.remove, (int, float)) else "by layer"
        usual = {"even", "magnitude"}
        return [share, *(value for value in (self.spread, self.score) if value not in usual)]

    def _count_kept(self, channels: ChannelMap) -> dict[str, int]:
        """Returns, by group, how many units stay of those that lose any.

        Raises:
            ExportError: None loses any.
        """
        shares = self._share_out(channels)
        counts = {}
        for group in channels.free:
            count, share = len(group.units), shares.get(group.name, 0.0)
            left = max(1, round(count * (1 - share) / self.multiple)) * self.multiple
            if share and left < count:
                counts[group.name] = left
        if not counts:
            raise ExportError(
                f"No layer can lose channels at remove: {self.remove} and multiple: {self.multiple}; there are "
                f"{_say_groups(channels.free) or 'no groups of channels that can be removed'}. Remove more, or set "
                "multiple: 1.",
                expected=f"a group of more than {self.multiple} channels",
                received=_say_groups(channels.free) or "none",
            )
        return counts

    def _share_out(self, channels: ChannelMap) -> dict[str, float]:
        """Returns the share to be removed of each group by its name.

        Raises:
            UnknownNameError: A name is no layer's and no group's.
            ConfigError: A layer that is named cannot lose channels, or two names ask for different things.
        """
        if not isinstance(self.remove, Mapping):
            return {group.name: self.remove for group in channels.free}
        shares: dict[str, float] = {}
        for name, share in self.remove.items():
            for group in channels.find(name):
                if group.obstacle:
                    raise ConfigError(
                        f"channels: '{name}' cannot lose channels: {group.obstacle}. Leave it out of remove.",
                        expected=_say_groups(channels.free),
                        received=name,
                    )
                if shares.setdefault(group.name, share) != share:
                    raise ConfigError(
                        f"channels: remove asks for {shares[group.name]:g} and for {share:g} of the same channels: "
                        f"those of {', '.join(group.layers)} go together. Give one share for them.",
                        expected="one share",
                        received=f"{shares[group.name]:g} and {share:g}",
                    )
        return shares

    def _score(self, model: "keras.Model", channels: ChannelMap, workshop: Workshop) -> np.ndarray:
        """Returns how much each unit is needed, `(units,)`."""
        if self.score == "magnitude":
            return weigh_by_magnitude(model, channels)
        trainer = workshop.trainer
        index = np.random.default_rng(workshop.seed).permutation(len(trainer.data.train))[:_EXAMPLES]
        split = trainer.data.train.take(index)
        batches = (
            (batch.inputs if len(batch.inputs) > 1 else next(iter(batch.inputs.values())), batch.targets)
            for batch in split.batches(_BATCH)
        )
        return weigh_by_taylor(model, channels, batches, trainer.objective.example_losses)

    def _say_small(self, channels: ChannelMap, counts: Mapping[str, int]) -> list[str]:
        asked = self._share_out(channels)
        small = [group.name for group in channels.free if asked.get(group.name) and group.name not in counts]
        if not small:
            return []
        return [f"channels: too few to lose any and stay a multiple of {self.multiple}: {', '.join(small)}."]


def _say_groups(groups: tuple[Group, ...]) -> str:
    return ", ".join(f"{group.name} ({len(group.units)})" for group in groups)


def _say_obstacles(model: "keras.Model", channels: ChannelMap) -> list[str]:
    """Returns a sentence for each reason why channels stay; that the last layer keeps its own goes without saying."""
    last = {tensor._keras_history.layer.name for tensor in model.outputs}
    layers: dict[str, list[str]] = {}
    for group in channels.groups:
        if group.obstacle and not set(group.layers) <= last:
            layers.setdefault(group.obstacle, []).extend(group.layers)
    return [f"channels: all of {', '.join(dict.fromkeys(names))} stay: {reason}." for reason, names in layers.items()]
