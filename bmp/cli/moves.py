"""`bmp models alias`, `promote`, `rollback`, `tag` and `describe`: what may change after a version is published."""

from typing import Any

import click

from bmp.cli.options import REFERENCE, open_version, read_alias, registry_option
from bmp.errors import ConfigError


@click.command("alias", short_help="Name the version that an alias stands for.")
@click.argument("model")
@click.argument("alias")
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--expected", metavar="VERSION", help="Only if the alias names this one now, or 'nothing'.")
@click.option("--remove", is_flag=True, help="Remove the alias; no VERSION then.")
@registry_option
def alias_command(
    model: str, alias: str, version: int | None, expected: str | None, remove: bool, registry: str
) -> None:
    """Point ALIAS of MODEL at VERSION; servers answer with the one called production, within a second or two.

    With --expected, of several people who move an alias at once only the first one does.
    """
    from bmp.registry import Registry

    if remove == (version is not None):
        raise ConfigError("Expected either a VERSION that the alias is to name, or --remove.")
    store, condition = Registry(registry), _read_expected(expected)
    if version is None:
        store.remove_alias(model, alias, **condition)
        click.echo(f"{model}@{alias} is removed")
        return
    store.set_alias(model, alias, version, **condition)
    click.echo(f"{model}@{alias} is version {version}")


def _read_expected(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text != "nothing" and not text.isdecimal():
        raise ConfigError(f"--expected is '{text}'; expected the number of a version, or 'nothing'.", received=text)
    return {"expected": None if text == "nothing" else int(text)}


@click.command("promote", short_help="Let production be a version.")
@click.argument("version", metavar=REFERENCE)
@click.option("--to", "alias", default="production", show_default=True, metavar="ALIAS", help="Which alias.")
@registry_option
def promote_command(version: str, alias: str, registry: str) -> None:
    """Let production be a version: a number, what another alias names, or the newest where only MODEL is given."""
    from bmp.registry import Registry
    from bmp.registry.reference import read_reference

    reference = read_reference(version)
    promoted = Registry(registry).promote(reference.name, reference.wanted, alias)
    click.echo(f"{promoted.name}@{alias} is version {promoted.number}")


@click.command("rollback", short_help="Return an alias to what it was before.")
@click.argument("model", metavar="MODEL[@ALIAS]")
@registry_option
def rollback_command(model: str, registry: str) -> None:
    """Return an alias, production unless another is named, to the version that it named before.

    Twice goes back two, not forth again; 'bmp models history MODEL' shows what there was.
    """
    from bmp.registry import Registry

    name, alias = read_alias(model)
    version = Registry(registry).rollback(name, alias)
    click.echo(f"{name}@{alias} is version {version.number} again")


@click.command("tag")
@click.argument("version", metavar=REFERENCE)
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...")
@registry_option
def tag_command(version: str, tags: tuple[str, ...], registry: str) -> None:
    """Put tags on a version; KEY= removes one."""
    pairs = dict(map(_read_tag, tags))
    store, found = open_version(registry, version)
    for key, value in pairs.items():
        store.tag(found.name, found.number, key, value)
    known = store.metadata(found.name, found.number).tags
    click.echo(
        f"{found.name}/{found.number}: {', '.join(f'{key}={value}' for key, value in known.items()) or 'no tags'}"
    )


def _read_tag(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(
            f"The tag '{text[:80]}' has no '='; expected KEY=VALUE, such as stage=tested, or KEY= to remove it.",
            expected="KEY=VALUE",
            received=text[:80],
        )
    return key, value or None


@click.command("describe", short_help="Say what a version is for.")
@click.argument("version", metavar=REFERENCE)
@click.argument("text")
@registry_option
def describe_command(version: str, text: str, registry: str) -> None:
    """Say in TEXT what a version is for; it replaces what was said before, and stands in the model card."""
    store, found = open_version(registry, version)
    store.describe(found.name, found.number, text)
    click.echo(f"{found.name}/{found.number} is described")
