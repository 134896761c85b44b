"""`bmp plan`: what a training will take, before it starts."""

import json
import sys
from contextlib import nullcontext

import click

from bmp.cli.tensorflow import check_can_train, hold_back_stderr
from bmp.errors import ConfigError


@click.command("plan")
@click.argument("recipe", default="digits")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key of the recipe.")
@click.option(
    "--workers", default=8, show_default=True, type=click.IntRange(1, 4096), help="Predict up to so many replicas."
)
@click.option("--bandwidth", metavar="RATE", help="Between machines like this one, such as 10Gbit.  [loopback]")
@click.option("--latency", metavar="TIME", help="With --bandwidth: of a small message, such as 20us.  [50us]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, help="Show TensorFlow's own messages as well.")
def plan_command(
    recipe: str,
    overrides: tuple[str, ...],
    workers: int,
    bandwidth: str | None,
    latency: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Say what training a recipe will take: memory, time, and what more replicas would gain.

    RECIPE is the name of a shipped one (digits, if none is given) or the path of a .yaml file. Its data is read, its
    model built, traced, and timed for a few steps; nothing is trained or written. Exit code 1: the recipe does not fit
    this machine as it is written.
    """
    from bmp.config import load_recipe

    resolved = load_recipe(recipe, overrides)
    rate, delay = _read_network(bandwidth, latency)
    check_can_train()
    with nullcontext() if verbose else hold_back_stderr():
        from rich.console import Console

        from bmp.plan.network import take_network
        from bmp.plan.plan import make_plan
        from bmp.plan.report import show, to_json

        console = Console(stderr=as_json)  # progress only, where a program reads the answer
        network = None if rate is None else take_network(rate, delay)
        plan = make_plan(resolved, most_replicas=workers, network=network, console=None if as_json else console)
        if as_json:
            click.echo(json.dumps(to_json(plan), indent=2))
        else:
            show(plan, console)
    sys.exit(0 if plan.fits_as_written else 1)


def _read_network(bandwidth: str | None, latency: str | None) -> tuple[float | None, float | None]:
    from bmp.plan.units import read_bandwidth, read_time

    if bandwidth is None and latency is not None:
        raise ConfigError("--latency needs --bandwidth: together they say what connects the machines.")
    return (
        None if bandwidth is None else read_bandwidth(bandwidth),
        None if latency is None else read_time(latency),
    )
