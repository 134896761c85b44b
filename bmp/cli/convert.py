"""`bmp data convert` and `bmp data keygen`: examples of any source, written as records."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from bmp.config import DataConfig, list_recipes, load_recipe
from bmp.errors import BmpError, ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from bmp.data import Source
    from bmp.data.records.manifest import Manifest


@click.command("convert")
@click.argument("source")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--shards", default=1, show_default=True, type=click.IntRange(1, 400), help="Files for each split.")
@click.option(
    "--compression",
    default="none",
    show_default=True,
    type=click.Choice(["zstd", "gzip", "none"]),
    help="Of each record by itself.",
)
@click.option("--encrypt-key-file", metavar="FILE", help="Encrypt with this key, or with the one in BMP_DATA_KEY.")
@click.option("--on-bad-example", type=click.Choice(["stop", "skip"]), help="In place of the recipe's.  [stop]")
@click.option("--max-bad-fraction", type=click.FloatRange(0, 1), help="In place of the recipe's.  [0.01]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of a recipe, or an argument of the source."
)
def convert_command(
    source: str,
    directory: Path,
    shards: int,
    compression: Any,
    encrypt_key_file: str | None,
    on_bad_example: Any,
    max_bad_fraction: float | None,
    overrides: tuple[str, ...],
) -> None:
    """Write the examples of SOURCE to DIR as records.

    SOURCE is a recipe, by name or path, or an entry of the catalog of sources with its arguments as --set key=value.
    Records are TFRecord files with an index: any example is read by its number. A conversion that was ended goes on
    when the same command is given again.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bmp.data.records.convert import Options, convert
    from bmp.data.records.keys import find_readers, read_key
    from bmp.data.split import take_split_column

    build, config = resolve_source(source, overrides)
    key = read_key(encrypt_key_file)
    if encrypt_key_file and (warning := find_readers(encrypt_key_file)):
        click.echo(f"bmp: {warning}", err=True)
    options = Options(
        shards,
        compression,
        key,
        on_bad_example or config.on_bad_example,
        config.max_bad_fraction if max_bad_fraction is None else max_bad_fraction,
    )
    examples, given = take_split_column(build(), config.split.column)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    description = {"source": config.source, "args": config.args}
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("looking at the examples", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, description="writing records", completed=done, total=total)

        try:
            manifest = convert(examples, directory, options, description=description, given=given, progress=show)
        except OSError as error:
            raise BmpError(
                f"The conversion ended half-way: {error}. Mend that, and give the same command again to go on."
            ) from error
    click.echo(_summarise(manifest, directory, encrypt_key_file))


@click.command("keygen")
@click.argument("file", type=click.Path(path_type=Path))
def keygen_command(file: Path) -> None:
    """Write a new random key to FILE, for records that are encrypted.

    Only its owner can read it. Whoever loses it loses the records.
    """
    from bmp.data.records.keys import write_key

    write_key(file)
    click.echo(f"a new key is in {file}; keep a copy apart from the records")


def _summarise(manifest: "Manifest", directory: Path, key_file: str | None) -> str:
    splits = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
    bad = f"; {manifest.num_bad:,} that cannot be used left out" if manifest.num_bad else ""
    size_mb = sum(entry.size_bytes for entry in manifest.files.values()) / 1e6
    how = [
        *([manifest.compression] if manifest.compression != "none" else []),
        *(["encrypted"] if manifest.key_check else []),
    ]
    more = f", {', '.join(how)}" if how else ""
    key = f", key_file: {key_file}" if key_file else ""
    return (
        f"{sum(manifest.splits.values()):,} examples ({splits}{bad}), {size_mb:,.1f} MB{more}\n"
        f"use them with  data: {{source: records, args: {{path: {directory}{key}}}}}"
    )


def resolve_source(text: str, overrides: tuple[str, ...]) -> tuple[Callable[[], "Source"], DataConfig]:
    """Finds the source that a recipe or an entry of the catalog stands for.

    Args:
        text: Name or path of a recipe, or name of a source.
        overrides: `section.key=value` of a recipe, `key=value` of the arguments of a source.

    Returns:
        The builder with its arguments, and the data section.

    Raises:
        ConfigError: There is neither, or an override is wrong.
    """
    from bmp.data import SOURCES

    if text.endswith((".yaml", ".yml")) or text in list_recipes():
        config = load_recipe(text, overrides).data
    elif text in SOURCES:
        config = DataConfig(source=text, args=dict(_read_argument(override) for override in overrides))
    else:
        known = [*list_recipes(), *SOURCES]
        raise UnknownNameError(
            f"'{text}' is neither a recipe ({', '.join(list_recipes())}) nor a source ({', '.join(SOURCES)}) nor the "
            f"path of a .yaml file.{suggest(text, known)}",
            expected=f"one of {', '.join(known)}",
            received=text,
        )
    return SOURCES.bind(config.source, config.args), config


def _read_argument(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not key or not equals:
        raise ConfigError(f"The argument '{override}' is not of the form key=value, such as path=train.csv.")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of the argument '{override}' is not valid YAML.") from error
