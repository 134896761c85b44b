"""`bmp models diff`: what one version is otherwise than another."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.compare import find_differences, flatten, say_value
from bmp.cli.options import REFERENCE, json_option, open_version, print_json, print_line, print_rows, registry_option

if TYPE_CHECKING:
    from bmp.artifact.manifest import Manifest
    from bmp.registry import Version

_RECIPE_FILE = "bmp/recipe.yaml"
_MOST_FILES = 20


@click.command("diff")
@click.argument("first", metavar=REFERENCE)
@click.argument("second", metavar=REFERENCE)
@registry_option
@json_option
def diff_command(first: str, second: str, registry: str, as_json: bool) -> None:
    """Show what the second version is otherwise than the first.

    What they take and give, scores, sizes, latencies, packages, the lines of the recipe, and files. They may be of
    different models.
    """
    versions = [open_version(registry, reference)[1] for reference in (first, second)]
    before, after = (version.read_manifest() for version in versions)
    names = [f"{version.name}/{version.number}" for version in versions]
    facts = find_differences({"first": describe(before), "second": describe(after)})
    recipe = diff_recipes(versions, (before, after), names)
    files = diff_files(before, after)
    if as_json:
        print_json({"first": names[0], "second": names[1], "differences": facts, "recipe": recipe, "files": files})
        return
    _show_facts(facts, names)
    if recipe:
        print_line("\n" + "\n".join(recipe))
    _show_files(files)


def describe(manifest: "Manifest") -> dict[str, Any]:
    """Returns what may be compared of a version, by dotted name, in the order in which people look at it."""
    variant = manifest.variant(manifest.recommended)
    figures = variant.measured.model_dump(exclude={"test_metrics", "test_score"})
    signature = manifest.parsed_signature()
    facts = {
        "inputs": {spec.name: str(spec) for spec in signature.inputs},
        "outputs": {spec.name: str(spec) for spec in signature.outputs},
        "objective": signature.objective,
        "labels": list(manifest.labels),
        "transforms": [_shorten(step) for step in (manifest.preprocessing or {}).get("steps", [])],
        "recommended": variant.name,
        "test": {manifest.score: variant.measured.test_score, **variant.measured.test_metrics},
        "measured": figures,
        "promise": None if manifest.promise is None else manifest.promise.verdict,
        "variants": [each.name for each in manifest.variants],
        "code_version": manifest.lineage.code_version,
        "data_sha256": manifest.lineage.data_sha256,
        "parent_version": manifest.lineage.parent_version,
        "packages": manifest.lineage.packages,
        "machine": manifest.lineage.machine,
    }
    return flatten(facts)


def _shorten(step: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step with what it was fitted to as short as it can be compared: a vocabulary may be long."""
    return {
        name: value if len(str(value)) <= 200 else f"{len(str(value)):,} characters" for name, value in step.items()
    }


def diff_recipes(versions: "list[Version]", manifests: "tuple[Manifest, Manifest]", names: list[str]) -> list[str]:
    """Returns the lines in which the recipes differ, as `diff -u` has them; none where they are the same.

    Raises:
        ArtifactError: A recipe has been altered.
    """
    from bmp.artifact.manifest import check_file

    before, after = (
        check_file(version.path, manifest, _RECIPE_FILE).read_text(encoding="utf-8").splitlines()
        if _RECIPE_FILE in manifest.files
        else []
        for version, manifest in zip(versions, manifests, strict=True)
    )
    old, new = (f"{name} {_RECIPE_FILE}" for name in names)
    return list(difflib.unified_diff(before, after, old, new, n=1, lineterm=""))


def diff_files(before: "Manifest", after: "Manifest") -> dict[str, list[str]]:
    """Returns the files that only one of them has, and those that are not the same, byte for byte."""
    old, new = before.files, after.files
    return {
        "added": sorted(set(new) - set(old)),
        "removed": sorted(set(old) - set(new)),
        "changed": sorted(name for name in set(old) & set(new) if old[name] != new[name]),
    }


def _show_facts(facts: Mapping[str, list[Any]], names: list[str]) -> None:
    rows = [(key, *map(_say, values)) for key, values in facts.items()]
    if rows:
        print_rows(("", *names), rows)
    else:
        click.echo(f"{names[0]} and {names[1]} take and give the same, and are equally good")


def _say(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else say_value(value)


def _show_files(files: Mapping[str, list[str]]) -> None:
    if not any(files.values()):
        click.echo("\nevery file is the same")
        return
    click.echo()
    for kind, found in files.items():
        more = f", and {len(found) - _MOST_FILES:,} more" if len(found) > _MOST_FILES else ""
        if found:
            print_line(f"{kind + ':':<9} {', '.join(found[:_MOST_FILES])}{more}")
