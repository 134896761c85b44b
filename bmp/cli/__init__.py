"""The bmp command; `python -m bmp` is the same."""

import os
import sys
from contextlib import nullcontext
from typing import Any

import click
import numpy as np

import bmp
from bmp.cli.compress import compress_group
from bmp.cli.data import data_group
from bmp.cli.export import export_command
from bmp.cli.imports import import_command
from bmp.cli.launch import launch_command
from bmp.cli.models import models_group
from bmp.cli.options import registry_option
from bmp.cli.plan import plan_command
from bmp.cli.runs import runs_group
from bmp.cli.serve import serve_command
from bmp.cli.tensorflow import check_can_train, hold_back_stderr
from bmp.errors import (
    BmpError,
    ConfigError,
    DataError,
    StoppedError,
    TrainingError,
)
from bmp.storage import is_disk_full

_SHADES = " .:-=+*#%@"


def _exit_code(error: BmpError) -> int:
    """Returns what a program, such as the launcher, can tell a failure by.

    2: what was asked for is wrong. 3: training cannot go on, and would not at a second try. 75: the disk is full.
    143 and 130: stopped as asked. 1: anything else.
    """
    if isinstance(error, StoppedError):
        return error.exit_code
    if is_disk_full(error):
        return 75
    kinds: list[tuple[type[BmpError], int]] = [
        (TrainingError, 3),
        (DataError, 3),
        (ConfigError, 2),
    ]
    return next((code for kind, code in kinds if isinstance(error, kind)), 1)


class _Command(click.Group):
    """Says a mistake in one sentence, and ends with a code that says of which kind it is."""

    def invoke(self, context: click.Context) -> Any:
        """Runs a command."""
        try:
            return super().invoke(context)
        except BmpError as error:
            from bmp.registry.printable import make_printable

            click.echo(f"bmp: {make_printable(str(error))}", err=True)
            context.exit(_exit_code(error))
        except KeyboardInterrupt:
            click.echo("bmp: stopped by Ctrl-C", err=True)
            context.exit(130)


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bmp.__version__, prog_name="bmp")
def main() -> None:
    """From a Keras model to a small, proven, served endpoint on your own machines."""


main.add_command(compress_group)
main.add_command(data_group)
main.add_command(export_command)
main.add_command(import_command)
main.add_command(launch_command)
main.add_command(models_group)
main.add_command(plan_command)
main.add_command(runs_group)
main.add_command(serve_command)


@main.command("run")
@click.argument("recipe", required=False)
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key of the recipe.")
@click.option(
    "--run-dir", metavar="DIR", help="Directory of the run; one of a run that ended early goes on.  [runs/NAME-TIME]"
)
@click.option(
    "--resume", is_flag=True, help="Go on with the last unfinished run of this model, or the one in --run-dir."
)
@click.option("--verbose", is_flag=True, help="Show TensorFlow's own messages as well.")
def run_command(
    recipe: str | None, overrides: tuple[str, ...], run_dir: str | None, resume: bool, verbose: bool
) -> None:
    """Train, compress, prove and publish a recipe.

    RECIPE is the name of a shipped one (digits, if none is given) or the path of a .yaml file. With --run-dir of a run
    that was begun it may be left out: the run goes on with its own.
    """
    from bmp.config import load_recipe
    from bmp.runs import RunDirectory

    begun = RunDirectory(run_dir) if run_dir is not None and RunDirectory(run_dir).exists() else None
    own = str(begun.recipe_file) if begun is not None else "digits"
    resolved = load_recipe(recipe or own, overrides)
    if begun is not None and begun.status_file.exists() and (status := begun.read_status()).state == "finished":
        click.echo(f"bmp: the run in {run_dir} is finished: it published {status.published}")
        return
    check_can_train()
    from bmp.run import run

    is_logged = verbose or "BMP_HEARTBEAT_FILE" in os.environ  # the log of a rank holds everything, stack dumps too
    with nullcontext() if is_logged else hold_back_stderr():
        finished = run(resolved, run_dir=run_dir, resume=resume)
    if finished is not None:
        sys.exit(finished.exit_code)


@main.command("try")
@click.argument("model", default="digits")
@registry_option
def try_command(model: str, registry: str) -> None:
    """Ask a model about one held-out example.

    Serves MODEL (digits, if none is given) on a free port, posts the example, prints the answer beside the true
    label, and stops the server.
    """
    from bmp.registry import Registry
    from bmp.smoke import ask_server

    answer = ask_server(Registry(registry), model)
    for array in answer.inputs.values():
        if array.ndim == 2:  # an image: darker where the value is larger
            shades = (array - array.min()) / (np.ptp(array) or 1) * (len(_SHADES) - 1)  # (H, W)
            click.echo("\n".join("  " + "".join(_SHADES[round(shade)] * 2 for shade in row) for row in shades))
    click.echo(f"POST {answer.url} to {answer.model}")
    truth = "" if answer.truth is None else f", true label {answer.truth}"
    click.echo(f"answer {answer.said}{truth}")


@main.command("doctor")
@registry_option
def doctor_command(registry: str) -> None:
    """Check that everything bmp needs is here.

    One line a check; exit code 1 if one fails. The last, a small run of everything, takes about ten seconds.
    """
    from bmp.doctor import run_checks

    failed = False
    with hold_back_stderr():
        for check in run_checks(registry):
            failed |= not check.passed
            click.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    sys.exit(1 if failed else 0)
