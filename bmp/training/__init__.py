"""The trainer around `keras.Model.fit`, its history and its progress bar."""

from bmp.catalog import Catalog
from bmp.training.history import History
from bmp.training.optimizers import build_adam, build_rmsprop, build_sgd
from bmp.training.trainer import Trainer

__all__ = ["OPTIMIZERS", "History", "Trainer"]

OPTIMIZERS = Catalog("optimizer", {"adam": build_adam, "rmsprop": build_rmsprop, "sgd": build_sgd})
