"""Which precision layers compute in: what a recipe wants, or what the devices compute faster in."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bmp.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras as keras

Policy = Literal["float32", "mixed_bfloat16", "mixed_float16"]

_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
_CLEARLY_FASTER = 1.2
"""In times of float32: less is noise."""


@dataclass(frozen=True)
class Hardware:
    """What the precision depends on.

    Args:
        gpu_capability: Compute capability of the GPUs, of different ones the least; None where there is none.
        cpu_flags: Instructions of the CPU for bfloat16.
    """

    gpu_capability: tuple[int, int] | None = None
    cpu_flags: tuple[str, ...] = ()


def read_hardware(*, use_gpus: bool = True, cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """Returns what this process has.

    Args:
        use_gpus: Whether training takes place on the GPUs that are there.
        cpuinfo: Where Linux lists the instructions of the CPU; elsewhere it knows of none.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU") if use_gpus else []
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min((detail.get("compute_capability", (0, 0)) for detail in details), default=None)
    words = set(re.findall(r"\w+", cpuinfo.read_text(encoding="utf-8"))) if cpuinfo.is_file() else set()
    return Hardware(capability, tuple(flag for flag in _CPU_FLAGS if flag in words))


def choose_precision(
    wanted: str,
    strategy: str,
    hardware: Hardware,
    *,
    may_time: bool = True,
    measure: Callable[[], float],
) -> tuple[Policy, str]:
    """Returns the policy for `keras.mixed_precision`, and why, as the log says it.

    Args:
        wanted: `auto`, `float32`, `mixed_bfloat16` or `mixed_float16`.
        strategy: The entry of STRATEGIES in use.
        hardware: Of the devices in use.
        may_time: Whether the clock may decide: not where a run must be the same twice, or several processes must
            decide alike. A CPU stays at float32 then, a GPU takes what it multiplies faster.
        measure: Returns the speed of this training in mixed_bfloat16, as a multiple of that in float32; asked of
            devices that have instructions for it. Small layers lose by the casts what large ones gain.

    Raises:
        ConfigError: The strategy cannot train in this precision, or there is none of the name.
    """
    if wanted == "auto":
        return _choose(strategy, hardware, may_time, measure)
    if wanted == "mixed_float16" and strategy == "parameter_server":
        raise ConfigError(
            "train.precision is mixed_float16, whose loss scale TensorFlow cannot keep with "
            "distribution.strategy: parameter_server. Use mixed_bfloat16 or float32.",
            expected="mixed_bfloat16 or float32",
            received=wanted,
        )
    warnings: dict[str, tuple[Policy, str]] = {
        "float32": ("float32", ""),
        "mixed_bfloat16": ("mixed_bfloat16", _doubt_bfloat16(hardware)),
        "mixed_float16": ("mixed_float16", _doubt_float16(hardware)),
    }
    if wanted not in warnings:
        raise ConfigError(
            f"train.precision is '{wanted}'; expected auto, {', '.join(warnings)}.",
            expected=f"auto, {', '.join(warnings)}",
            received=wanted,
        )
    policy, warning = warnings[wanted]
    return policy, f"as the recipe says{warning}"


def wrap_loss_scale(optimizer: "keras.optimizers.Optimizer", policy: str) -> "keras.optimizers.Optimizer":
    """Returns the optimizer, for float16 with a dynamic loss scale: small gradients would be 0 in it."""
    import tf_keras as keras

    return keras.mixed_precision.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Lets layers that are made meanwhile compute in a precision; what the process is set to else stays as it is."""
    import tf_keras as keras

    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@contextmanager
def full_float32() -> Iterator[None]:
    """Lets GPUs compute float32 in full: since Ampere they round what they multiply to 10 bits (TF32), for speed.

    Training bears that; a comparison with what a CPU computes does not: outputs differed by 5e-4 on an H100.
    """
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _choose(strategy: str, hardware: Hardware, may_time: bool, measure: Callable[[], float]) -> tuple[Policy, str]:
    capability = hardware.gpu_capability
    if capability is not None and (capability < (8, 0) or not may_time):
        return _choose_for_gpu(strategy, capability)
    if capability is not None:  # it multiplies float32 fast as well, as TF32: the casts may cost more than they save
        return _choose_by_clock(f"GPUs of compute capability {_say(capability)} multiply bfloat16 faster", measure)
    if not hardware.cpu_flags:
        return "float32", f"the CPU has no instructions for bfloat16 ({' or '.join(_CPU_FLAGS)})"
    flags = " and ".join(hardware.cpu_flags)
    if not may_time:
        return "float32", (
            f"the CPU has {flags}, but whether they pay is seen by the clock, which must not decide here; "
            "set train.precision: mixed_bfloat16 to use them"
        )
    return _choose_by_clock(f"the CPU has {flags}", measure)


def _choose_by_clock(fact: str, measure: Callable[[], float]) -> tuple[Policy, str]:
    speedup = measure()
    if speedup >= _CLEARLY_FASTER:
        return "mixed_bfloat16", f"{fact}, and this model trains {speedup:.1f} times as fast in it"
    return "float32", f"{fact}, but this model trains only {speedup:.1f} times as fast in it"


def _choose_for_gpu(strategy: str, capability: tuple[int, int]) -> tuple[Policy, str]:
    said = _say(capability)
    if capability >= (8, 0):
        return "mixed_bfloat16", f"GPUs of compute capability {said} multiply bfloat16 faster"
    if capability < (7, 0):
        return "float32", f"GPUs of compute capability {said} multiply no short numbers faster"
    if strategy == "parameter_server":
        return "float32", f"GPUs of compute capability {said} need float16, which parameter_server cannot train in"
    return "mixed_float16", f"GPUs of compute capability {said} multiply float16 faster"


def _say(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _doubt_bfloat16(hardware: Hardware) -> str:
    """Returns what a log should warn of, with the comma before it."""
    if hardware.gpu_capability is not None:
        slow = hardware.gpu_capability < (8, 0)
        return ", though GPUs of a compute capability under 8.0 compute bfloat16 slowly" if slow else ""
    return "" if hardware.cpu_flags else f", though a CPU without {' or '.join(_CPU_FLAGS)} computes bfloat16 slowly"


def _doubt_float16(hardware: Hardware) -> str:
    return "" if hardware.gpu_capability is not None else ", though a CPU computes float16 many times slower"
