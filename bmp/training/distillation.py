"""What a model learns from a teacher: how much, how softly, and from which layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bmp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How the answers of a teacher take part in the loss of an example.

    The loss is `(1 - alpha) hard + alpha soft`, and for features `feature_weight` times their distance more. Hard is
    that of the targets, with class weights and label smoothing. Soft is, of probabilities, `temperature²` times the
    divergence (Kullback-Leibler, in nats) of the student's from the teacher's, both softened by the temperature; of
    numbers it is the squared error to those of the teacher, and the temperature does nothing.

    Args:
        temperature: What logits are divided by; the higher, the more the small probabilities tell.
        alpha: Share of the soft loss, 0 to 1.
        features: Layers of the student, each with the layer of the teacher whose output it is to resemble.
        feature_weight: What the distance of features counts; a pair is 0 to 4 apart, 2 where nothing is alike.

    Raises:
        ConfigError: A number is out of range.

    Reference:
        Hinton, Vinyals, Dean: Distilling the knowledge in a neural network, 2015, section 2.
        Romero et al.: FitNets: hints for thin deep nets, 2015, section 2.2 (features).
    """

    temperature: float = 4.0
    alpha: float = 0.5
    features: Mapping[str, str] = field(default_factory=dict)
    feature_weight: float = 0.5

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, self.temperature > 0, "a number over 0")
        _check("alpha", self.alpha, 0 <= self.alpha <= 1, "a share from 0 to 1")
        _check("feature_weight", self.feature_weight, self.feature_weight >= 0, "0 or more")


def _check(name: str, value: float, is_right: bool, expected: str) -> None:
    if not (is_right and math.isfinite(value)):
        raise ConfigError(
            f"{name} of a distillation is {value:g}; expected {expected}.", expected=expected, received=f"{value:g}"
        )
