"""On what terms a registry is served: which versions and variants, whose word counts, and how much stays in memory."""

from dataclasses import dataclass
from typing import Literal

from serving.models.control import Control
from serving.settings import Settings


@dataclass(frozen=True)
class Terms:
    """What is served, and how much of it is in memory.

    Args:
        versions: Which versions of a model: `served` the default and those that aliases name; `latest:N` the newest N
            as well; `all`.
        variants: When variants that are not recommended are loaded: once they are `asked` for, or `all` at the start.
        trust: Names of models that the operator vouches for, whatever their graphs do.
        memory_bytes: What loaded models may take in a process; None where there is no limit.
        control: What clients want loaded; None where the registry decides alone.
    """

    versions: str = "served"
    variants: Literal["asked", "all"] = "asked"
    trust: frozenset[str] = frozenset()
    memory_bytes: int | None = None
    control: Control | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Terms":
        """Returns what an operator has set."""
        explicit = settings.model_control == "explicit"
        return cls(
            versions=settings.versions,
            variants=settings.variants,
            trust=frozenset(settings.trust),
            memory_bytes=None if settings.memory_mb is None else settings.memory_mb * 2**20,
            control=Control(settings.models, settings.control_file) if explicit else None,
        )
