"""What several commands share: options, how a version is named, tables for people and one document for programs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from bmp.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from bmp.registry import Registry, Version

REFERENCE = "MODEL[@ALIAS|/VERSION]"

_MOST_LAID_OUT = 500  # rows; rich takes about a millisecond for each

registry_option = click.option(
    "--registry",
    default="registry",
    envvar="BMP_REGISTRY",
    show_default=True,
    metavar="DIR",
    help="Where the models are.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")


def open_version(registry: str, reference: str) -> tuple["Registry", "Version"]:
    """Returns a registry, and the version of it that a person names.

    Raises:
        ConfigError: That is no reference.
        NotFoundError: There is no such model, version or alias.
    """
    from bmp.registry import Registry
    from bmp.registry.reference import read_reference

    wanted = read_reference(reference)
    store = Registry(registry)
    return store, store.resolve(wanted.name, wanted.wanted)


def read_alias(text: str) -> tuple[str, str]:
    """Returns the model and the alias that a text names: `digits@canary`, or `digits` for its alias production.

    Raises:
        ConfigError: It names something else.
    """
    from bmp.registry.reader import PRODUCTION
    from bmp.registry.reference import read_reference

    reference = read_reference(text)
    if reference.number is not None:
        raise ConfigError(
            f"'{text}' names a version; expected an alias, such as {reference.name}@{PRODUCTION}.",
            expected="MODEL[@ALIAS]",
            received=text,
        )
    return reference.name, reference.alias or PRODUCTION


def explain_empty(registry: str) -> NotFoundError:
    """Returns that there is nothing, and how there can be something."""
    return NotFoundError(
        f"The registry '{registry}' holds no model. Publish one with 'bmp run', or name another with --registry."
    )


def print_line(text: str) -> None:
    """Prints a line in which others may have had their say."""
    from bmp.registry.printable import make_printable

    click.echo(make_printable(text))


def print_json(document: Any) -> None:
    """Prints one document; what JSON does not know is printed as text."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_rows(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    gap: int = 2,
) -> None:
    """Prints a table as wide as the terminal; many rows, or where there is no terminal, as wide as they want to be.

    Args:
        headings: Of the columns.
        rows: Cells of text.
        right: Headings of columns of numbers.
        whole: Headings of columns whose cells are not broken into lines.
        gap: Blanks between columns.
    """
    if len(rows) > _MOST_LAID_OUT:
        _print_columns(headings, rows, right, gap)
        return
    from rich.table import Table
    from rich.text import Text

    from bmp.cli.compare import print_table
    from bmp.registry.printable import make_printable

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, overflow="fold", justify=justify, no_wrap=heading in (*right, *whole))
    for row in rows:
        table.add_row(*map(Text, map(make_printable, row)))
    print_table(table)


def _print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], gap: int) -> None:
    heads = [heading.replace("\n", " ") for heading in headings]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    pads = [str.rjust if heading in right else str.ljust for heading in headings]
    for row in (heads, *rows):
        cells = (pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True))
        print_line((" " * gap).join(cells).rstrip())
