"""`bmp compress`: a published model made smaller or faster, under a promise; and what goes with that."""

import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.options import registry_option
from bmp.cli.tensorflow import check_can_train, hold_back_stderr

if TYPE_CHECKING:
    from rich.console import Console


def _make_console(as_json: bool) -> "Console":
    """Returns where people read: standard error, where a program reads the answer; wide enough where nobody looks."""
    from rich.console import Console

    console = Console(stderr=as_json)
    return console if console.is_terminal else Console(stderr=as_json, width=max(console.width, 110))


_verbose_option = click.option("--verbose", is_flag=True, help="Show TensorFlow's own messages as well.")


class _Compress(click.Group):
    """A group whose subcommand may be left out: what is no name of one is the model to compress."""

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        """Puts the subcommand in that was left out."""
        if args and args[0] not in self.commands:
            args = ["search", *args]
        return super().resolve_command(context, args)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Lets options stand in front of the model."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["search", *args]
        return super().parse_args(context, args)


@click.group("compress", cls=_Compress)
def compress_group() -> None:
    """Make a published model smaller or faster, under a promise.

    \b
    bmp compress MODEL [OPTIONS]    search, prove, publish; 'bmp compress search --help' lists the options
    bmp compress check MODEL        what there is to try, layer by layer, in seconds
    bmp compress verify MODEL       measure again what a published version claims

    MODEL is a name, name@alias or name/version.
    """  # noqa: D301 - click wants the character, not the two


@compress_group.command("search")
@click.argument("model")
@click.option("--max-drop", metavar="SHARE", help="The promise: how much worse it may be, such as 0.5%.  [recipe's]")
@click.option("--goal", type=click.Choice(["size", "latency", "balanced"]), help="What to make small.  [recipe's]")
@click.option("--time", "time_limit", metavar="TIME", help="How long to search, such as 20m.  [until nothing is left]")
@click.option("--max-trials", type=click.IntRange(1), help="How many chains to try at most.")
@click.option("--metric", help="What the promise speaks of.  [score of the objective]")
@click.option("-t", "--technique", "techniques", multiple=True, metavar="NAME", help="Use only this; may be repeated.")
@click.option("--chain", "chains", multiple=True, metavar="YAML", help="Try just this, such as '[prune, int8]'.")
@click.option("--distill", is_flag=True, help="Let the uncompressed model teach in every fine-tuning.")
@click.option("--accept", type=click.Choice(["proven", "unproven"]), help="What may be recommended.  [proven]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of compress: in the recipe."
)
@click.option(
    "--recipe", "file", metavar="FILE", help="A recipe to take compress: from, such as bmp/recipe.yaml of a version."
)
@click.option(
    "--work-dir", metavar="DIR", help="Where trials are kept for the next call.  [runs/compress-NAME-VERSION]"
)
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_verbose_option
def search_command(model: str, registry: str, work_dir: str | None, as_json: bool, verbose: bool, **asked: Any) -> None:
    """Search for the chain of techniques that serves the goal best and keeps the promise.

    Every candidate is exported and measured as it will be served. Ctrl-C ends the search with the best so far; a second
    call goes on where the first stopped. The promise is tested on the test split, which no choice has seen.
    Exit code 3: no candidate keeps it; nothing is published.
    """
    check_can_train()
    with nullcontext() if verbose else hold_back_stderr():
        from bmp.compress import compress

        outcome = compress(
            model,
            _to_overrides(asked),
            recipe=asked["file"],
            registry=registry,
            work_dir=work_dir,
            console=_make_console(as_json),
        )
    if as_json:
        click.echo(json.dumps(outcome.to_json(), indent=2))
    sys.exit(outcome.exit_code)


def _to_overrides(asked: dict[str, Any]) -> list[str]:
    """Returns options as overrides of the section `compress:`, in the form of `load_recipe`."""
    named = {"max_drop": "max_drop", "goal": "goal", "time_limit": "time", "max_trials": "max_trials"}
    named |= {"metric": "metric", "accept": "accept"}
    found = [f"compress.{key}={asked[option]}" for option, key in named.items() if asked[option] is not None]
    if asked["techniques"]:
        found.append(f"compress.techniques={json.dumps(asked['techniques'])}")
    if asked["chains"]:
        found.append(f"compress.chains=[{', '.join(asked['chains'])}]")
    if asked["distill"]:
        found.append("compress.distill=true")
    return [*found, *(f"compress.{override}" for override in asked["overrides"])]


@compress_group.command("check")
@click.argument("model")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_verbose_option
def check_command(model: str, registry: str, as_json: bool, verbose: bool) -> None:
    """Say which technique works on which layer, and what helps where it does not.

    MODEL is that of a registry, the name of a shipped recipe, or the path of one; of a recipe, the network is looked at
    as it is before training.
    """
    check_can_train()
    with nullcontext() if verbose else hold_back_stderr():
        from bmp.compress import check

        report = check(model, registry=registry, console=_make_console(as_json))
    if as_json:
        from bmp.compression.check.table import to_rows

        click.echo(json.dumps(to_rows(report), indent=2))


@compress_group.command("verify")
@click.argument("model")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_verbose_option
def verify_command(model: str, registry: str, as_json: bool, verbose: bool) -> None:
    """Measure again what a published version claims: files, sizes, metrics, the promise.

    Exit code 1: a claim does not hold.
    """
    check_can_train()
    with nullcontext() if verbose else hold_back_stderr():
        from bmp.claims import verify

        claims = verify(model, registry=registry, console=_make_console(as_json))
    if as_json:
        click.echo(json.dumps([claim.to_json() for claim in claims], indent=2))
    sys.exit(0 if all(claim.holds for claim in claims) else 1)
