"""A plan as a person reads it, and as a program does."""

import dataclasses
from typing import Any

from rich.console import Console
from rich.table import Table

from bmp.plan.cost import BACKWARD
from bmp.plan.fit import SPARE
from bmp.plan.plan import Plan, Speed
from bmp.plan.scaling import Prediction
from bmp.plan.units import say_bytes, say_count, say_time

_MODEL = (
    "step = computation + ring all-reduce, 2 (n-1)/n * gradients / bandwidth + 2 (n-1) * latency "
    "(Patarasuk and Yuan, 2009); nothing overlaps"
)


def show(plan: Plan, console: Console) -> None:
    """Prints a plan."""
    _say_cost(plan, console)
    _say_memory(plan, console)
    _say_fits(plan, console)
    if plan.speed is None:
        console.print()
        _say(console, _explain_no_speed(plan))
        return
    _say_speed(plan, plan.speed, console)
    _say(console, *_recommend(plan, plan.speed))


def to_json(plan: Plan) -> dict[str, Any]:
    """Returns a plan as one JSON object: bytes, seconds and FLOPs, whole."""
    cost, speed = plan.cost, plan.speed
    return {
        "name": plan.recipe.publish.name,
        "model": plan.model,
        "parameters": {"trainable": cost.trainable, "frozen": cost.frozen},
        "flops": {
            "forward_example": cost.forward.total,
            "step": cost.step_flops(plan.batch),
            "uncounted": sorted(cost.forward.uncounted),
        },
        "bytes": {
            "weights": cost.weights_bytes,
            "gradients": cost.gradient_bytes,
            "optimizer": cost.optimizer_bytes,
            "activations_batch": round(cost.kept.at(plan.share)),
            "activations_example": round(cost.kept.each),
            "batch": plan.batch_bytes,
            "pipeline": plan.pipeline_bytes,
            "process": plan.process_bytes,
            "replica": cost.replica_bytes(plan.share, plan.recipe.train.accumulate),
            "checkpoint": cost.checkpoint_bytes,
        },
        "batch_size": plan.batch,
        "replicas": plan.replicas,
        "cores": plan.machine.cores,
        "memory": [
            {
                "replicas": replicas,
                "examples": share,
                "replica_bytes": replica,
                "server_bytes": server,
                "worker_bytes": worker,
            }
            for replicas, share, replica, server, worker in _list_memory(plan)
        ],
        "devices": [
            {
                "name": fit.device.name,
                "free_bytes": fit.device.free_bytes,
                "needed_bytes": fit.needed_bytes,
                "accumulate": fit.pieces,
                "verdict": fit.verdict,
                "used": fit.is_used,
            }
            for fit in plan.fits
        ],
        "fits": plan.fits_as_written,
        "total_steps": plan.total_steps,
        "speed": None if speed is None else _speed_to_json(plan, speed),
    }


def _speed_to_json(plan: Plan, speed: Speed) -> dict[str, Any]:
    def to_row(row: Prediction) -> dict[str, Any]:
        return dataclasses.asdict(row) | {"step_s": row.step_s, "examples_per_s": row.examples_per_s}

    return {
        "steps_timed": speed.steps_timed,
        "step_s": speed.strong[0].step_s,
        "training_s": plan.total_steps * speed.strong[0].step_s,
        "network": dataclasses.asdict(speed.network),
        "strong": [to_row(row) for row in speed.strong],
        "weak": [to_row(row) for row in speed.weak],
        "recommended": {
            "strategy": _name_strategy(plan, speed),
            "replicas": speed.best.replicas,
            "batch_size": plan.batch,
            "accumulate": plan.pieces,
        },
    }


def _say_cost(plan: Plan, console: Console) -> None:
    cost = plan.cost
    steps = f"{plan.total_steps:,} steps of {plan.batch:,} examples"
    _say(
        console,
        f"{plan.recipe.publish.name}: {plan.model}, {cost.trainable:,} parameters to train and {cost.frozen:,} others; "
        f"{steps if plan.total_steps else 'fitted by its builder, no steps'}",
        f"FLOPs       {say_count(cost.forward.total)} for one example forward, "
        f"{say_count(cost.step_flops(plan.batch))} a training step "
        f"(backward = {BACKWARD} x forward; a multiply-add is two)",
    )
    if cost.forward.uncounted:
        _say(console, f"            not in it, for want of a rule: {', '.join(sorted(cost.forward.uncounted))}")


def _say_memory(plan: Plan, console: Console) -> None:
    cost, share = plan.cost, plan.share
    pieces = min(plan.recipe.train.accumulate, share)
    if not cost.trainable:
        _say(
            console,
            f"weights     {say_bytes(cost.weights_bytes)}",
            f"beside them {say_bytes(plan.process_bytes)} for Python, TensorFlow and the data",
        )
        return
    _say(
        console,
        f"weights     {say_bytes(cost.weights_bytes)}; gradients {say_bytes(cost.gradient_bytes)}; "
        f"{plan.recipe.train.optimizer} keeps {say_bytes(cost.optimizer_bytes)}; "
        f"a checkpoint is {say_bytes(cost.checkpoint_bytes)}",
        f"activations {say_bytes(cost.kept.at(-(-share // pieces)))} kept for the backward pass of "
        f"{-(-share // pieces):,} examples, {say_bytes(cost.kept.each)} an example: the tensors of the traced forward "
        "graph that the traced gradient graph reads",
        f"peak        {say_bytes(cost.replica_bytes(share, pieces))} a replica: weights, optimizer and the most that "
        "is held at a time when the traced step runs in order",
        f"beside it   {say_bytes(plan.process_bytes)} for Python, TensorFlow and the data, at most "
        f"{say_bytes(plan.pipeline_bytes)} for batches on their way",
    )
    table = _make_table(
        "replicas",
        "examples\neach",
        "bytes of\na replica",
        "of all\nreplicas",
        "or: of para-\nmeter servers",
        "and of each\nworker",
    )
    for replicas, examples, replica, server, worker in _list_memory(plan):
        sizes = (replica, replicas * replica, server, worker)
        table.add_row(f"{replicas}", f"{examples:,}", *map(say_bytes, sizes))
    console.print()
    console.print(table)


def _list_memory(plan: Plan) -> list[tuple[int, int, int, int, int]]:
    """Returns for numbers of replicas: examples of each, bytes of each, of parameter servers, of a worker of theirs.

    One device, mirrored and multi-worker replicas each hold everything; a worker of parameter servers holds no state
    of the optimizer, which the servers hold, together, with the weights.
    """
    rows = []
    counts = [row.replicas for row in plan.speed.strong] if plan.speed else [plan.replicas]
    for replicas in counts:
        share = -(-plan.batch // replicas)
        replica = plan.cost.replica_bytes(share, min(plan.pieces, share))
        state = plan.cost.optimizer_bytes
        rows.append((replicas, share, replica, plan.cost.weights_bytes + state, replica - state))
    return rows


def _say_fits(plan: Plan, console: Console) -> None:
    console.print()
    for fit in plan.fits:
        spared = f", {SPARE:.2f} times the replica" if plan.cost.trainable else ""
        free = "unknown" if fit.device.free_bytes is None else say_bytes(fit.device.free_bytes)
        colour = "green" if fit.fits_as_written else "red"
        _say(
            console,
            f"{fit.device.name}: {say_bytes(fit.needed_bytes)} of {free} free{spared}: [bold {colour}]{fit.verdict}[/]",
        )


def _explain_no_speed(plan: Plan) -> str:
    if not plan.cost.trainable:
        return "There is nothing to train step by step: the builder has fitted the model already."
    return (
        "Not even single examples fit; no step was run. Make the model smaller, or plan it on a machine with more "
        "memory."
    )


def _say_speed(plan: Plan, speed: Speed, console: Console) -> None:
    one, network = speed.strong[0], speed.network
    shared = "" if speed.pace.cores is None else f" share its {speed.pace.cores:g} cores"
    where = f"on this machine{shared}" if network.is_local else "each on a machine like this one"
    console.print()
    _say(
        console,
        f"a step      {say_time(one.step_s)} on this machine: the median of {speed.steps_timed} real steps, warm-up "
        f"excluded, {_say_jit(plan)}; {one.examples_per_s:,.0f} examples a second"
        + (f"; in {plan.pieces} pieces" if plan.pieces > 1 else ""),
        f"training    {say_time(plan.total_steps * one.step_s)} for {plan.total_steps:,} steps, validation and "
        "compression not counted",
        "",
        f"model       {_MODEL}",
        f"network     {say_bytes(network.bandwidth)}/s, {say_time(network.latency_s)}: {network.origin}",
        f"assumed     workers {where}; gradients travel as dense tensors; an example costs the same in any batch",
    )
    _say(console, "", "the same global batch")
    console.print(_build_table(speed.strong))
    _say(console, "", "the same batch a replica")
    console.print(_build_table(speed.weak))
    if len(speed.strong) > 1:
        _say(console, "", "what a worker moves in a step of the same global batch")
        console.print(_build_traffic(speed.strong))


def _say_jit(plan: Plan) -> str:
    jit = plan.recipe.train.jit
    if jit is True:
        return "compiled by XLA"
    return "without XLA, which train.jit: auto may choose" if jit == "auto" else "without XLA"


def _build_table(rows: list[Prediction]) -> Table:
    table = _make_table(
        "replicas",
        "examples\neach",
        "compute",
        "all-\nreduce",
        "step",
        "effi-\nciency",
        "examples\na second",
    )
    for row in rows:
        times = map(say_time, (row.compute_s, row.all_reduce_s, row.step_s))
        table.add_row(
            f"{row.replicas}", f"{row.examples:,}", *times, f"{row.efficiency:.0%}", f"{row.examples_per_s:,.0f}"
        )
    return table


def _build_traffic(rows: list[Prediction]) -> Table:
    table = _make_table("workers", "sent in\nthe ring", "or: pulled from\nparameter servers", "pushed\nto them")
    for row in rows[1:]:
        table.add_row(f"{row.replicas}", *map(say_bytes, (row.sent_bytes, row.pulled_bytes, row.pushed_bytes)))
    return table


def _make_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _name_strategy(plan: Plan, speed: Speed) -> str:
    if speed.best.replicas == 1:
        return "one_device"
    return "mirrored" if speed.network.is_local and plan.machine.gpus else "multi_worker"


def _recommend(plan: Plan, speed: Speed) -> list[str]:
    """Returns what to do, and why."""
    best, one = speed.best, speed.strong[0]
    cut = "" if plan.pieces == 1 else f", train.accumulate: {plan.pieces}"
    settings = f"distribution.strategy: {_name_strategy(plan, speed)}, data.batch_size: {plan.recipe.data.batch_size}"
    said = f"recommended {settings}{cut}"
    if best.replicas > 1:
        gain = f"{one.step_s / best.step_s:.1f} times as fast as one"
        return ["", f"{said}, {best.replicas} replicas: {gain}, each {best.efficiency:.0%} as useful"]
    others = speed.strong[1:]
    if not others:
        return ["", f"{said}: nothing else was asked about"]
    closest = min(others, key=lambda row: row.step_s)
    return [
        "",
        f"{said}: more replicas do not pay; the fastest, {closest.replicas}, would take {say_time(closest.step_s)} a "
        f"step against {say_time(one.step_s)}, each {closest.efficiency:.0%} as useful as one alone",
    ]


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
