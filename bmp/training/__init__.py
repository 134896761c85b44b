"""The trainer around `keras.Model.fit`, its history and its progress bar."""

from bmp.catalog import Catalog
from bmp.training.history import History
from bmp.training.optimizers import build_adam, build_adamw, build_rmsprop, build_sgd
from bmp.training.schedules import build_constant, build_cosine
from bmp.training.trainer import Trainer

__all__ = ["OPTIMIZERS", "SCHEDULES", "History", "Trainer"]

OPTIMIZERS = Catalog(
    "optimizer", {"adam": build_adam, "adamw": build_adamw, "rmsprop": build_rmsprop, "sgd": build_sgd}
)
SCHEDULES = Catalog("schedule", {"constant": build_constant, "cosine": build_cosine})
