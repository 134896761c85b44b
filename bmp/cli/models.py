"""`bmp models`: what is published, what a version is, and what happened to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.difference import diff_command
from bmp.cli.moves import alias_command, describe_command, promote_command, rollback_command, tag_command
from bmp.cli.options import (
    REFERENCE,
    explain_empty,
    json_option,
    open_version,
    print_json,
    print_line,
    print_rows,
    registry_option,
)
from bmp.cli.past import at_command, history_command, lineage_command
from bmp.cli.transfer import export_command, import_command, keygen_command, sign_command
from bmp.cli.upkeep import gc_command, repair_command, verify_command
from bmp.errors import ConfigError

if TYPE_CHECKING:
    from bmp.artifact.manifest import Imported, Manifest
    from bmp.registry import Registry, Version
    from bmp.registry.summary import Summary


@click.group("models")
def models_group() -> None:
    """Published models: look, name the one to serve, sign, carry elsewhere.

    MODEL[@ALIAS|/VERSION] is a name, name@alias or name/version. A name alone is the version that its alias
    "production" names, or else the newest.
    """


for _command in (
    *(diff_command, history_command, at_command, lineage_command),
    *(alias_command, promote_command, rollback_command, tag_command, describe_command),
    *(verify_command, repair_command, gc_command),
    *(export_command, import_command, keygen_command, sign_command),
):
    models_group.add_command(_command)


@models_group.command("list")
@click.argument("model", required=False)
@registry_option
@json_option
def list_command(model: str | None, registry: str, as_json: bool) -> None:
    """List every published version, of MODEL or of all."""
    from bmp.registry import Registry

    store = Registry(registry)
    if model is not None:
        store.resolve(model)  # says what there is where there is no such model
    summaries = store.summaries(model)
    if as_json:
        print_json([_to_json(summary) for summary in summaries])
        return
    rows = [_to_row(summary) for summary in summaries]
    if not rows:
        raise explain_empty(registry)
    print_rows(
        ("model", "version", "aliases", "variant", "test\nscore", "bytes", "created"),
        rows,
        right=("version", "bytes"),
        whole=("aliases", "created"),
        gap=1,
    )


def _to_json(summary: "Summary") -> dict[str, Any]:
    row = {"model": summary.name, "version": summary.number, "aliases": summary.aliases}
    row |= summary.facts.model_dump(mode="json")
    return row | {"description": summary.metadata.description, "tags": summary.metadata.tags}


def _to_row(summary: "Summary") -> tuple[str, ...]:
    facts = summary.facts
    return (
        summary.name,
        str(summary.number),
        ", ".join(summary.aliases),
        facts.variant,
        "" if facts.score is None else f"{facts.score:.4f} {facts.metric}",
        f"{facts.size_bytes:,}",
        f"{facts.created:%Y-%m-%d %H:%M}",
    )


@models_group.command("show", short_help="Show what a version is, and how good.")
@click.argument("version", metavar=REFERENCE)
@registry_option
@json_option
def show_command(version: str, registry: str, as_json: bool) -> None:
    """Show what a version is, what goes in and comes out, and how good each variant is."""
    store, found = open_version(registry, version)
    manifest = found.read_manifest()
    facts = _collect_facts(store, found)
    if as_json:
        print_json(facts | {"manifest": manifest.model_dump(mode="json")})
        return
    from rich.console import Console

    from bmp.artifact.table import build_table, explain_verdicts

    words = _describe(facts, manifest)
    width = max(map(len, words))
    for name, value in words.items():
        print_line(f"{name:<{width}}  {value}")
    Console(highlight=False).print("\n", build_table(manifest), sep="", end="")
    print_line("\n".join(explain_verdicts(manifest)))


def _collect_facts(store: "Registry", version: "Version") -> dict[str, Any]:
    """Returns what a version's manifest does not tell."""
    from bmp.registry.signing import read_signatures

    metadata = store.metadata(version.name, version.number)
    file = store.signature_file(version.name, version.number)
    return {
        "model": version.name,
        "version": version.number,
        "path": str(version.path),
        "aliases": sorted(name for name, number in store.aliases(version.name).items() if number == version.number),
        "description": metadata.description,
        "tags": metadata.tags,
        "signed_by": [signature.key_id for signature in read_signatures(file).signatures] if file.exists() else [],
    }


def _describe(facts: dict[str, Any], manifest: "Manifest") -> dict[str, str]:
    signature, transforms = manifest.parsed_signature(), manifest.parsed_preprocessing()
    labels = ", ".join(manifest.labels[:12]) + (f", … ({len(manifest.labels):,})" if len(manifest.labels) > 12 else "")
    parent, imported = manifest.lineage.parent_version, manifest.lineage.imported
    words = {
        "version": f"{facts['model']}/{facts['version']}",
        "aliases": ", ".join(facts["aliases"]),
        "description": " ".join(facts["description"].split()),
        "tags": ", ".join(f"{key}={value}" for key, value in sorted(facts["tags"].items())),
        "path": facts["path"],
        "created": f"{manifest.created:%Y-%m-%d %H:%M:%S} UTC",
        "inputs": ", ".join(f"{spec.name}: {spec}" for spec in signature.inputs),
        "outputs": ", ".join(f"{spec.name}: {spec}" for spec in signature.outputs),
        "objective": signature.objective,
        "labels": labels,
        "transforms": ", ".join(step.kind for step in transforms.steps) if transforms is not None else "",
        "made from": "" if parent is None else f"version {parent}",
        "imported": "" if imported is None else f"{imported.file} ({imported.format}), {_say_trust(imported)}",
        "signed by": ", ".join(f"key {key}" for key in facts["signed_by"]) or "nobody",
        "bytes": f"{sum(entry.size_bytes for entry in manifest.files.values()):,} in {len(manifest.files)} files",
    }
    return {name: value for name, value in words.items() if value}


def _say_trust(imported: "Imported") -> str:
    return "trusted without a look into it" if imported.trusted else "looked into: nothing in it can run code"


@models_group.command("card", short_help="Write the model card, as Markdown.")
@click.argument("version", metavar=REFERENCE)
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Write it here.  [print it]")
@registry_option
def card_command(version: str, output: Path | None, registry: str) -> None:
    """Write the model card of a version, as Markdown: what it is, how good it is, how to ask it."""
    from bmp.registry.card import build_card
    from bmp.storage import write_atomically

    store, found = open_version(registry, version)
    metadata = store.metadata(found.name, found.number)
    card = build_card(found, metadata.description, metadata.tags)
    if output is None:
        click.echo(card, nl=False)
        return
    try:
        write_atomically(output, card.encode())
    except OSError as error:
        raise ConfigError(f"The card cannot be written to {output}: {error.strerror or error}.") from error
    click.echo(f"the card of {found.name}/{found.number} is in {output}")
