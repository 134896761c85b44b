"""`bmp models verify`, `repair` and `gc`: whether a registry is as it was made, and room in it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.options import explain_empty, json_option, open_version, print_json, print_line, registry_option
from bmp.errors import ArtifactError

if TYPE_CHECKING:
    from bmp.registry import Registry, Version
    from bmp.registry.keys import PublicKeys
    from bmp.registry.verification import Problem


@click.command("verify", short_help="Check every byte, and signatures.")
@click.argument("model", required=False, metavar="[MODEL[@ALIAS|/VERSION]]")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="K.pub",
    type=click.Path(path_type=Path),
    help="Each version must be signed by this key, or one of this directory; may be repeated: any of them will do.",
)
@registry_option
@json_option
def verify_command(model: str | None, keys: tuple[Path, ...], registry: str, as_json: bool) -> None:
    """Check a version, a model, or the whole registry: journal, aliases, every byte of every file, signatures.

    Exit code 1: something is wrong.
    """
    from bmp.registry import Registry
    from bmp.registry.keys import read_public_keys

    trusted = {name: key for path in keys for name, key in read_public_keys(path).items()}
    store = Registry(registry)
    if model is not None and not set(model).isdisjoint("@/"):
        versions = [open_version(registry, model)[1]]
        problems = _check_files(versions[0])
    else:
        problems = [_to_json(problem) for problem in store.verify(model)]
        versions = list(_list_versions(store, model))
    if trusted:
        problems += [problem for version in versions for problem in _check_signature(store, version, trusted)]
    if not versions and not problems:
        raise explain_empty(registry)
    _show_problems(problems, versions, bool(trusted), as_json)
    sys.exit(1 if problems else 0)


def _list_versions(store: "Registry", name: str | None) -> "Iterator[Version]":
    from bmp.errors import RegistryError

    for each in store.models() if name is None else [name]:
        try:
            numbers = store.versions(each)
        except RegistryError:  # its journal is damaged: the problems say so
            continue
        for number in numbers:
            yield store.get(each, number)


def _check_files(version: "Version") -> list[dict[str, Any]]:
    try:
        version.check_files()
    except ArtifactError as error:
        return [_make_problem(version, "altered", error)]
    return []


def _check_signature(store: "Registry", version: "Version", keys: "PublicKeys") -> list[dict[str, Any]]:
    from bmp.registry.signing import check_signature

    try:
        check_signature(version, store.signature_file(version.name, version.number), keys)
    except ArtifactError as error:
        return [_make_problem(version, "signature", error)]
    return []


def _make_problem(version: "Version", kind: str, error: ArtifactError) -> dict[str, Any]:
    problem = {"model": version.name, "version": version.number, "kind": kind, "message": error.message}
    return problem | {"can_be_repaired": False}


def _show_problems(problems: list[dict[str, Any]], versions: "list[Version]", is_signed: bool, as_json: bool) -> None:
    if as_json:
        checked = [{"model": version.name, "version": version.number} for version in versions]
        print_json({"checked": checked, "problems": problems})
        return
    for problem in problems:
        print_line(f"{problem['kind']}: {problem['message']}")
    count = f"{len(versions):,} version{'' if len(versions) == 1 else 's'} checked"
    if not problems:
        click.echo(f"{count}: every file is as published{', every version is signed' if is_signed else ''}")
        return
    click.echo(f"{count}: {len(problems):,} problem{'' if len(problems) == 1 else 's'}")
    names = sorted({problem["model"] for problem in problems if problem["can_be_repaired"]})
    if names:
        click.echo(f"'bmp models repair{f' {names[0]}' if len(names) == 1 else ''}' puts right what a crash left")


def _to_json(problem: "Problem") -> dict[str, Any]:
    return {
        "model": problem.model,
        "version": problem.version,
        "kind": problem.kind,
        "message": problem.message,
        "can_be_repaired": problem.can_be_repaired,
    }


@click.command("repair", short_help="Put right what a crash left.")
@click.argument("model", required=False)
@registry_option
@json_option
def repair_command(model: str | None, registry: str, as_json: bool) -> None:
    """Put right what a crash left in MODEL, or in all; what is damaged stays for 'bmp models verify' to tell."""
    from bmp.registry import Registry

    mended = Registry(registry).repair(model)
    if as_json:
        print_json([_to_json(problem) for problem in mended])
        return
    for problem in mended:
        print_line(f"mended: {problem.message}")
    if not mended:
        click.echo("there was nothing to mend")


@click.command("gc", short_help="Remove versions that nobody needs.")
@click.argument("model", required=False)
@click.option(
    "--keep", default=1, show_default=True, type=click.IntRange(1), help="How many of the newest stay, of each model."
)
@registry_option
@json_option
def gc_command(model: str | None, keep: int, registry: str, as_json: bool) -> None:
    """Remove the versions of MODEL, or of all, that no alias names, but the newest, and those that a server holds.

    Their numbers are never given again.
    """
    from bmp.registry import Registry

    collected = Registry(registry).gc(model, keep=keep)
    if as_json:
        removed = [{"model": gone.name, "version": gone.number, "bytes": gone.size_bytes} for gone in collected.removed]
        in_use = [{"model": version.name, "version": version.number} for version in collected.in_use]
        print_json({"removed": removed, "in_use": in_use, "freed_bytes": collected.freed_bytes})
        return
    for gone in collected.removed:
        click.echo(f"{gone.name}/{gone.number} is removed: {gone.size_bytes:,} bytes")
    for version in collected.in_use:
        click.echo(f"{version.name}/{version.number} stays: a server, or another process, uses it")
    count = len(collected.removed)
    click.echo(f"{count:,} version{'' if count == 1 else 's'} removed, {collected.freed_bytes:,} bytes freed")
