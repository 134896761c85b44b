"""The model a recipe describes, built and compiled as training does it, for a plan to look at."""

from typing import TYPE_CHECKING

from bmp.builders import Builders
from bmp.config import Recipe
from bmp.data import Dataset
from bmp.durations import Clock
from bmp.models import build_model
from bmp.objectives import OBJECTIVES
from bmp.plan.cost import refuse_over
from bmp.training.precision import computing_in

if TYPE_CHECKING:
    import tf_keras as keras


def build_compiled(recipe: Recipe, build: Builders, data: Dataset, *, clock: Clock, free_bytes: int) -> "keras.Model":
    """Returns the model with its optimizer, both with all their variables.

    Raises:
        ConfigError: The model does not fit the data, or the schedule not the training.
        TrainingError: The variables alone need more memory than is free.
    """
    import tf_keras as keras

    learning_rate = build.schedule(recipe.train.learning_rate, clock)
    objective = OBJECTIVES[data.signature.objective]
    keras.utils.set_random_seed(recipe.seed)
    with (
        refuse_over(free_bytes),
        computing_in("float32" if recipe.train.precision == "auto" else recipe.train.precision),
    ):
        model = build_model(build.model, data.signature, data.train)
        model.compile(build.optimizer(learning_rate), objective.make_loss(), objective.make_metrics())
        model.optimizer.build(model.trainable_variables)
    return model
