"""What several replicas would gain: predicted step times, by a model of computation and of the network."""

from dataclasses import dataclass

from bmp.plan.cost import Cost
from bmp.plan.line import Line
from bmp.plan.network import Network, count_sent_bytes

_LEAST_EFFICIENCY = 0.5
_LEAST_GAIN = 1.2


@dataclass(frozen=True)
class Pace:
    """How fast this machine computes steps of a model, by the examples of a batch.

    Args:
        wall: Seconds.
        work: Seconds of a core, of all cores together. A step keeps at least one core from others while it runs.
        cores: Of this machine, which workers on it divide among them; None where each has a device of its own.
    """

    wall: Line
    work: Line
    cores: float | None

    def compute_s(self, examples: int, replicas: int, pieces: int) -> float:
        """Returns the time of a step's computation on each of several replicas.

        Workers that share the cores compute no faster together than all cores do: not under the time measured for
        one, and not under the work of all divided by the cores.
        """
        alone = self.wall.fixed * pieces + self.wall.each * examples
        if self.cores is None:
            return alone
        return max(alone, replicas * (self.work.fixed * pieces + self.work.each * examples) / self.cores)


@dataclass(frozen=True)
class Prediction:
    """A number of replicas, and what a step of theirs takes.

    Args:
        replicas: How many.
        total: Examples of a step, of all replicas together.
        examples: A replica's share of a batch.
        compute_s: Forward, backward and update.
        all_reduce_s: Bringing the gradients together.
        efficiency: Of one replica: 1 if n replicas are n times as fast.
        sent_bytes: By each replica, a step, in the ring.
        pulled_bytes: By each worker from parameter servers, a step.
        pushed_bytes: By each worker to parameter servers, a step.
    """

    replicas: int
    total: int
    examples: int
    compute_s: float
    all_reduce_s: float
    efficiency: float
    sent_bytes: float
    pulled_bytes: float
    pushed_bytes: float

    @property
    def step_s(self) -> float:
        """The whole step; nothing overlaps."""
        return self.compute_s + self.all_reduce_s

    @property
    def examples_per_s(self) -> float:
        """Over all replicas."""
        return self.total / self.step_s


def count_replicas(most: int) -> list[int]:
    """Returns 1, 2, 4, 8 … and the last one."""
    return sorted({most, *(2**power for power in range(most.bit_length()))} & set(range(1, most + 1)))


def predict_strong(cost: Cost, pace: Pace, network: Network, *, batch: int, pieces: int, most: int) -> list[Prediction]:
    """Predicts steps of the same global batch, dealt out to more and more replicas."""
    counts = [replicas for replicas in count_replicas(most) if replicas <= batch]
    return [_predict(cost, pace, network, (batch, replicas, pieces), batch) for replicas in counts]


def predict_weak(cost: Cost, pace: Pace, network: Network, *, batch: int, pieces: int, most: int) -> list[Prediction]:
    """Predicts steps in which every replica has a batch of its own, as large as the recipe's."""
    return [
        _predict(cost, pace, network, (batch * replicas, replicas, pieces), batch) for replicas in count_replicas(most)
    ]


def _predict(cost: Cost, pace: Pace, network: Network, step: tuple[int, int, int], alone: int) -> Prediction:
    """Predicts one step.

    Args:
        cost: Of the model.
        pace: Of this machine.
        network: Between the replicas.
        step: Examples of all replicas together, replicas, pieces of a share.
        alone: Examples of the step of one replica that efficiency is compared with.
    """
    total, replicas, pieces = step
    share = -(-total // replicas)
    compute_s = pace.compute_s(share, replicas, min(pieces, share))
    all_reduce_s = network.all_reduce_s(replicas, cost.gradient_bytes)
    one_s = pace.compute_s(alone, 1, min(pieces, alone)) * total / alone
    pushed = cost.pushed.at(share)
    return Prediction(
        replicas=replicas,
        total=total,
        examples=share,
        compute_s=compute_s,
        all_reduce_s=all_reduce_s,
        efficiency=one_s / replicas / (compute_s + all_reduce_s),
        sent_bytes=count_sent_bytes(replicas, cost.gradient_bytes),
        pulled_bytes=cost.weights_bytes - cost.gradient_bytes + pushed,
        pushed_bytes=pushed,
    )


def choose_replicas(strong: list[Prediction]) -> Prediction:
    """Returns the fastest number of replicas that pays; one, unless another clearly gains.

    More than one pays where the step is at least 1.2 times as fast, and each replica at least half as useful as one
    alone.
    """
    paying = [
        found
        for found in strong[1:]
        if strong[0].step_s >= _LEAST_GAIN * found.step_s and found.efficiency >= _LEAST_EFFICIENCY
    ]
    return min([strong[0], *paying], key=lambda found: found.step_s)
