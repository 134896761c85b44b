"""MODELS: networks built from a signature, and what else can be written down as one."""

from typing import Any

from bmp.catalog import Catalog
from bmp.models.build import Builder, bind_own, build_model
from bmp.models.classical import build_classical
from bmp.models.cnn import build_cnn
from bmp.models.gpt import build_gpt
from bmp.models.lenet import build_lenet5
from bmp.models.mlp import build_mlp
from bmp.models.mobilenet import build_mobilenet_v2
from bmp.models.resnet import build_resnet
from bmp.models.rnn import build_rnn
from bmp.models.transformer import build_transformer

__all__ = ["MODELS", "build_model", "look_up_model"]

MODELS = Catalog(
    "model",
    {
        "classical": build_classical,
        "cnn": build_cnn,
        "gpt": build_gpt,
        "lenet5": build_lenet5,
        "mlp": build_mlp,
        "mobilenet_v2": build_mobilenet_v2,
        "resnet": build_resnet,
        "rnn": build_rnn,
        "transformer": build_transformer,
    },
)


def look_up_model(build: str, args: dict[str, Any]) -> Builder:
    """Returns a builder with its arguments checked and filled in; nothing is built yet.

    Args:
        build: An entry of MODELS, or `file.py:function` for a network of the user's own.
        args: Keyword-only parameters of the builder.

    Raises:
        UnknownNameError: No model has this name.
        ConfigError: There is no such function, or an argument is unknown, missing or of the wrong type.
    """
    return bind_own(build, args) if ":" in build else MODELS.bind(build, args)
