"""`bmp data …`: look at examples before they are trained on."""

from pathlib import Path

import click

from bmp.cli.convert import convert_command, keygen_command, resolve_source
from bmp.config import list_recipes, load_recipe
from bmp.errors import ConfigError


@click.group("data")
def data_group() -> None:
    """Look at data, write it as records."""


data_group.add_command(convert_command)
data_group.add_command(keygen_command)


@data_group.command("describe")
@click.argument("source")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of a recipe, or an argument of the source."
)
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the picture goes.  [SOURCE-data.png]",
)
def describe_command(source: str, overrides: tuple[str, ...], plot: Path | None) -> None:
    """Say and draw what is in SOURCE.

    SOURCE is a recipe, by name or path, or an entry of the catalog of sources with its arguments as --set key=value.
    Every example is read: counts, class balance, ranges, missing values, duplicates; and all that cannot be used is
    listed, where training would stop at the first.
    """
    from rich.console import Console

    from bmp.data.describe import draw, gather_facts, show

    build, config = resolve_source(source, overrides)
    seed = load_recipe(source, overrides).seed if is_recipe(source) else 0
    console = Console()
    facts = gather_facts(build(), config, seed, console)
    show(facts, console)
    path = plot or Path(f"{Path(source).stem}-data.png")
    try:
        draw(facts, path, Path(source).stem)
    except OSError as error:
        raise ConfigError(f"The picture cannot be written to {path}: {error.strerror or error}.") from error
    console.print(f"\npicture  {path}", highlight=False, soft_wrap=True)


def is_recipe(text: str) -> bool:
    """Returns whether a text names a recipe: a shipped one, or the path of a file."""
    return text.endswith((".yaml", ".yml")) or text in list_recipes()
