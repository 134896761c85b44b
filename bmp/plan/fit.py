"""Whether a training fits into a device, and if not, in how many pieces its batch does."""

from dataclasses import dataclass

from bmp.plan.cost import Cost
from bmp.plan.machine import Device

SPARE = 1.4
"""Times what a replica is predicted to hold: kernels take scratch memory, and run at the same time. Six networks held
0.92 to 1.34 times as much on a CPU."""


@dataclass(frozen=True)
class Fit:
    """What became of one device.

    Args:
        device: Which.
        needed_bytes: Of the recipe as written, with something to spare.
        pieces: `train.accumulate` with the largest pieces that fit; None if not even single examples do, or if nobody
            tells how much the device has.
        verdict: `fits`, `DOES NOT FIT as written, fits with train.accumulate: 4`, `DOES NOT FIT`, or `unknown`.
        is_used: Whether the recipe puts a replica there.
    """

    device: Device
    needed_bytes: int
    pieces: int | None
    verdict: str
    is_used: bool = True

    @property
    def fits_as_written(self) -> bool:
        """Whether nothing has to be changed."""
        return self.verdict in ("fits", "unknown")


@dataclass(frozen=True)
class Load:
    """What is put on a device.

    Args:
        examples: A replica's share of a batch.
        pieces: In which it computes it, as the recipe is written.
        replicas: On this device.
        beside_bytes: What else is there: the process, its data, batches on their way.
    """

    examples: int
    pieces: int
    replicas: int = 1
    beside_bytes: int = 0


def judge(device: Device, cost: Cost, load: Load, *, is_used: bool = True) -> Fit:
    """Says whether a load fits into what is free of a device."""

    def need(pieces: int) -> int:
        return load.beside_bytes + int(SPARE * load.replicas * cost.replica_bytes(load.examples, pieces))

    free = device.free_bytes
    if free is None:
        return Fit(device, need(load.pieces), None, "unknown", is_used)
    if need(load.pieces) <= free:
        return Fit(device, need(load.pieces), load.pieces, "fits", is_used)
    pieces = next((tried for tried in _list_pieces(load) if need(tried) <= free), None)
    verdict = "DOES NOT FIT" if pieces is None else f"DOES NOT FIT as written, fits with train.accumulate: {pieces}"
    return Fit(device, need(load.pieces), pieces, verdict, is_used)


def _list_pieces(load: Load) -> list[int]:
    """Returns the numbers of pieces that make them smaller, the largest pieces first."""
    sizes = range(-(-load.examples // load.pieces) - 1, 0, -1)
    return sorted({-(-load.examples // size) for size in sizes})
