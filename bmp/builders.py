"""The catalog entries that a recipe names, looked up before anything is read or built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bmp.config import Recipe
from bmp.data import SOURCES
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError
from bmp.models import look_up_model
from bmp.training import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class Builders:
    """Entries of the catalogs, their arguments filled in."""

    data: Callable[..., Any]
    model: Callable[..., Any]
    strategy: Callable[..., Any]
    optimizer: Callable[..., Any]
    schedule: Callable[..., Any]


def look_up(recipe: Recipe) -> Builders:
    """Looks every name of a recipe up; nothing is read or built yet.

    Raises:
        ConfigError: A name or an argument is wrong.
    """
    return Builders(
        SOURCES.bind(recipe.data.source, recipe.data.args),
        look_up_model(recipe.model.build, recipe.model.args),
        STRATEGIES.bind(recipe.distribution.strategy, {}),
        OPTIMIZERS.bind(recipe.train.optimizer, recipe.train.optimizer_args),
        SCHEDULES.bind(recipe.train.schedule, recipe.train.schedule_args),
    )


def check_alone(cluster: Cluster) -> None:
    """Refuses a search in one of several processes: what to try next is decided by one, and trained by all.

    Raises:
        ConfigError: Others take part.
    """
    if cluster.num_processes > 1:
        raise ConfigError(
            f"A search runs in one process, and this is one of {cluster.num_processes}. Name chains in place of "
            "compress.time, or search afterwards, by 'bmp compress' in one process.",
            expected="one process",
            received=str(cluster.num_processes),
        )
