"""The trainer around `keras.Model.fit`, its history and its progress bar."""

from bmp.catalog import Catalog
from bmp.training.history import History
from bmp.training.optimizers import (
    build_adafactor,
    build_adagrad,
    build_adam,
    build_adamax,
    build_adamw,
    build_lamb,
    build_lion,
    build_rmsprop,
    build_sgd,
)
from bmp.training.schedules import (
    build_constant,
    build_cosine,
    build_exponential,
    build_linear,
    build_plateau,
    build_step,
)
from bmp.training.trainer import Trainer

__all__ = ["OPTIMIZERS", "SCHEDULES", "History", "Trainer"]

OPTIMIZERS = Catalog(
    "optimizer",
    {
        "adafactor": build_adafactor,
        "adagrad": build_adagrad,
        "adam": build_adam,
        "adamax": build_adamax,
        "adamw": build_adamw,
        "lamb": build_lamb,
        "lion": build_lion,
        "rmsprop": build_rmsprop,
        "sgd": build_sgd,
    },
)
SCHEDULES = Catalog(
    "schedule",
    {
        "constant": build_constant,
        "cosine": build_cosine,
        "exponential": build_exponential,
        "linear": build_linear,
        "plateau": build_plateau,
        "step": build_step,
    },
)
