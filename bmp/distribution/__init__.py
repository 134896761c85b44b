"""STRATEGIES: which devices and processes take part in training, who this one is, and the launcher that starts them."""

from bmp.catalog import Catalog
from bmp.distribution.strategies import (
    build_auto,
    build_mirrored,
    build_multi_worker,
    build_one_device,
    build_parameter_server,
    build_tpu,
)

__all__ = ["STRATEGIES"]

STRATEGIES = Catalog(
    "strategy",
    {
        "auto": build_auto,
        "one_device": build_one_device,
        "mirrored": build_mirrored,
        "multi_worker": build_multi_worker,
        "parameter_server": build_parameter_server,
        "tpu": build_tpu,
    },
)
