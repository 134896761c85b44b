"""The forms of a model that are exported and measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bmp.compression.prune import find_obstacle, prune
from bmp.compression.quantize import pick_calibration
from bmp.config import CompressConfig
from bmp.signature import Arrays
from bmp.training import History, Trainer

if TYPE_CHECKING:
    import tf_keras as keras

UNCOMPRESSED = "float32"


@dataclass(frozen=True)
class Candidate:
    """A model about to be exported.

    Args:
        name: Of the variant it becomes.
        model: What is exported, and what the export is compared with.
        calibration: Inputs that set the int8 ranges; None exports float32.
    """

    name: str
    model: "keras.Model"
    calibration: Arrays | None = None


def make_candidates(
    model: "keras.Model", config: CompressConfig, trainer: Trainer, seed: int
) -> tuple[list[Candidate], History, list[str]]:
    """Returns the uncompressed model and every compressed form that is asked for.

    `float32`, then `pruned`, `int8` and `pruned_int8`, as far as the configuration wants them and the model allows;
    the epochs that fine-tuning took; and a sentence for each form that cannot be made.
    """
    candidates, history, notes = [Candidate(UNCOMPRESSED, model)], History(), []
    obstacle = find_obstacle(model) if config.pruning else None
    if obstacle:
        notes.append(f"{obstacle} No pruned variant is made.")
    elif config.pruning:
        pruned, history = prune(model, config.pruning, trainer)
        candidates.append(Candidate("pruned", pruned))
    if config.quantization:
        calibration = pick_calibration(trainer.data.train, config.quantization, seed)
        name_of = {UNCOMPRESSED: "int8"}
        candidates += [
            Candidate(name_of.get(c.name, f"{c.name}_int8"), c.model, calibration) for c in tuple(candidates)
        ]
    return candidates, history, notes
