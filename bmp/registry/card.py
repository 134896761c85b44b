"""The card of a model: what a version says of itself, as Markdown for people.

Reference:
    Mitchell et al., Model Cards for Model Reporting, 2019.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from bmp.artifact.manifest import Imported, Lineage, Manifest, Measurement, PromiseEntry, check_file
from bmp.registry.printable import make_printable
from bmp.registry.request import build_request
from bmp.registry.version import Version
from bmp.signature import TensorSpec

_RECIPE_FILE = "bmp/recipe.yaml"
_MAX_LABELS = 24
_TASKS = {
    "multiclass": "one of {count} classes",
    "binary": "one of two classes",
    "multilabel": "any of {count} labels",
    "regression": "numbers",
    "next_token": "the token that comes next, of {count}",
}
_TRAINING = (
    ("model", "model.build"),
    ("its arguments", "model.args"),
    ("epochs", "train.epochs"),
    ("steps", "train.steps"),
    ("optimizer", "train.optimizer"),
    ("learning rate", "train.learning_rate"),
    ("schedule", "train.schedule"),
    ("batch size", "data.batch_size"),
    ("seed", "seed"),
)
_DATA = (
    ("source", "data.source"),
    ("its arguments", "data.args"),
    ("split", "data.split"),
    ("bad examples", "data.on_bad_example"),
)


def build_card(version: Version, description: str = "", tags: Mapping[str, str] | None = None) -> str:
    """Returns the card of a version.

    Args:
        version: Its manifest and recipe are read.
        description: What it is for, in its maker's own words.
        tags: By name.

    Raises:
        ArtifactError: The version is damaged.
    """
    manifest = version.read_manifest()
    recipe = _read_recipe(version, manifest)
    sections = {
        "Intended use": _say_use(version, description),
        "What goes in": _say_inputs(manifest),
        "What comes out": _say_outputs(manifest),
        "How to ask it": _say_request(version.name, manifest),
        "Results": _say_results(manifest),
        "Variants": _say_variants(manifest),
        "Promise": _say_promise(manifest.promise, manifest.max_drop),
        "Data": _say_settings(recipe, _DATA),
        "Training": _say_settings(recipe, _TRAINING),
        "Import": _say_import(manifest.lineage.imported),
        "Lineage": _say_lineage(manifest.lineage),
    }
    parts = [f"# {version.name}, version {version.number}", _say_summary(manifest, tags or {})]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return make_printable("\n\n".join(parts) + "\n")


# --- sections ---


def _say_summary(manifest: Manifest, tags: Mapping[str, str]) -> str:
    measured = manifest.variant(manifest.recommended).measured
    task = _TASKS.get(manifest.parsed_signature().objective, "").format(count=f"{len(manifest.labels):,}")
    rows = [
        ("answers with", task),
        ("created", f"{manifest.created:%Y-%m-%d %H:%M} UTC"),
        ("served as", f"{_code(manifest.recommended)}, {measured.size_bytes:,} bytes"),
        (manifest.score, _say_score(measured.test_score, " on the test split")),
        ("an example takes", f"{measured.latency_batch1_ms:.3f} ms on {_text(manifest.lineage.machine)}, one thread"),
        *((_text(f"tag {name}"), _text(value)) for name, value in sorted(tags.items())),
    ]
    return _table(("", ""), [row for row in rows if row[1]])


def _say_use(version: Version, description: str) -> str:
    if description.strip():
        return "\n".join(f"> {line}".rstrip() for line in description.strip().splitlines())
    return f"Nobody has said yet; `bmp models describe {version.name}/{version.number} TEXT` puts it here."


def _say_inputs(manifest: Manifest) -> str:
    transforms = manifest.parsed_preprocessing()
    if transforms is None or not transforms.steps:
        return _table(("input", "type", "shape of one"), map(_describe_tensor, manifest.parsed_signature().inputs))
    rows = [
        (_code(field.name), field.kind, f"{field.dtype} {_say_shape(field.shape)}" if field.kind == "tensor" else "")
        for field in transforms.fields
    ]
    steps = ", ".join(_code(step.kind) for step in transforms.steps)
    return f"{_table(('feature', 'kind', 'shape of one'), rows)}\n\nThe server transforms them itself: {steps}."


def _say_outputs(manifest: Manifest) -> str:
    table = _table(("output", "type", "shape of one"), map(_describe_tensor, manifest.parsed_signature().outputs))
    if not manifest.labels:
        return table
    shown = ", ".join(map(_code, manifest.labels[:_MAX_LABELS]))
    more = f" and {len(manifest.labels) - _MAX_LABELS:,} more" if len(manifest.labels) > _MAX_LABELS else ""
    return f"{table}\n\nLabels, in the order of the output: {shown}{more}."


def _say_request(name: str, manifest: Manifest) -> str:
    content_type, body = build_request(name, manifest)
    url = f"localhost:5000/predict?model={name}"
    if content_type == "application/json":
        option, url = "-d", "localhost:5000/predict"
    else:
        option = "--data-binary" if body.startswith("@") else "-d"
    curl = f"curl -s {shlex.quote(url)} -H 'Content-Type: {content_type}' {option} {shlex.quote(body)}"
    note = "\n\n`…` stands for what is left out here." if "…" in body else ""
    return f"```sh\nbmp serve --model {name}\n{curl}\n```{note}"


def _say_results(manifest: Manifest) -> str:
    first, last = manifest.variants[0], manifest.variant(manifest.recommended)
    shown = [first] if first.name == last.name else [first, last]
    names = list(dict.fromkeys(name for variant in shown for name in variant.measured.test_metrics))
    rows = [
        (name, *(_say_score(variant.measured.test_metrics.get(name)) for variant in shown)) for name in sorted(names)
    ]
    if not rows:
        return ""
    return f"On the test split, by the exported files:\n\n{_table(('', *(_code(v.name) for v in shown)), rows)}"


def _say_variants(manifest: Manifest) -> str:
    heads = ("variant", f"{manifest.score} (validation)", "test", "bytes", "gzipped", "ms, batch 1", "ms, batch 32", "")
    rows = [
        (_code(variant.name), *_say_measured(variant.measured), _text(variant.verdict)) for variant in manifest.variants
    ]
    return f"{_table(heads, rows)}\n\nMeasured on {_text(manifest.lineage.machine)}, one thread; the median."


def _say_measured(measured: Measurement) -> Sequence[str]:
    return (
        _say_score(measured.validation_score) or "–",
        _say_score(measured.test_score) or "–",
        f"{measured.size_bytes:,}",
        f"{measured.gzip_bytes:,}",
        f"{measured.latency_batch1_ms:.3f}",
        f"{measured.latency_batch32_ms:.3f}",
    )


def _say_promise(promise: PromiseEntry | None, max_drop: float) -> str:
    if promise is None:
        return ""
    seen = "the same as"
    if promise.drop:
        seen = f"{abs(promise.drop):.4f} {'worse' if promise.drop > 0 else 'better'} than"
    accepted = " Its maker took it without proof." if promise.verdict == "unproven" else ""
    return (
        f"**{promise.verdict.capitalize()}**: on {promise.examples:,} examples, {promise.metric} was {seen} the "
        f"uncompressed model's, and by all that is plausible (confidence {promise.confidence:.0%}) is at most "
        f"{promise.high:.4f} worse; {max_drop:g} is allowed.{accepted}"
    )


def _say_settings(recipe: Mapping[str, Any], wanted: Iterable[tuple[str, str]]) -> str:
    found = [(title, _look_up(recipe, key)) for title, key in wanted]
    return _table(
        ("", ""), [(title, _code(_say_value(value))) for title, value in found if value not in (None, {}, [])]
    )


def _say_import(imported: Imported | None) -> str:
    if imported is None:
        return ""
    looked = (
        "not looked into: its owner vouched for it" if imported.trusted else "looked into: nothing in it can run code"
    )
    apart = "kept from all other files and the network" if imported.confined else "not kept apart by the kernel"
    rows = [
        ("file", f"{_code(imported.file)}, {_text(imported.format)}, {imported.size_bytes:,} bytes; {looked}"),
        ("SHA-256", _code(imported.sha256)),
        ("run by", f"{_text(imported.engine)}, {apart}"),
        ("compared on", _text(imported.samples)),
        *((f"{_text(name)} differs by", f"{value:.3g}") for name, value in imported.differences.items()),
        *((f"no {_text(name)}", _text(reason)) for name, reason in imported.left_out.items()),
    ]
    return _table(("", ""), rows)


def _say_lineage(lineage: Lineage) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in lineage.packages.items())
    rows = [
        ("made from", "" if lineage.parent_version is None else f"version {lineage.parent_version}"),
        ("data", f"SHA-256 {_code(lineage.data_sha256)}" if lineage.data_sha256 else ""),
        ("recipe", f"SHA-256 {_code(lineage.recipe_sha256)}" if lineage.recipe_sha256 else ""),
        ("run", _text(lineage.run or "")),
        ("bmp", _text(lineage.code_version)),
        ("packages", _text(packages)),
    ]
    return _table(("", ""), [row for row in rows if row[1]])


# --- Markdown ---


def _describe_tensor(spec: TensorSpec) -> tuple[str, str, str]:
    tokens = f", 0 to {spec.vocabulary - 1:,}" if spec.vocabulary else ""
    return _code(spec.name), f"{spec.dtype}{tokens}", _say_shape(spec.shape)


def _say_shape(shape: Sequence[int | None]) -> str:
    return " × ".join("any" if size is None else str(size) for size in shape) or "one number"


def _say_score(score: float | None, suffix: str = "") -> str:
    return "" if score is None else f"{score:.4f}{suffix}"


def _say_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {line} |" for line in lines) if len(lines) > 2 else ""


def _text(text: str) -> str:
    """Returns a text in one line that Markdown shows as it is."""
    return re.sub(r"([\\`*\[\]<>|&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Returns a text as code, in one line; the two characters that would end a cell or the code become others."""
    return f"`{' '.join(text.split()).replace('`', 'ˋ').replace('|', '¦')}`" if text.strip() else "` `"


# --- the recipe ---


def _read_recipe(version: Version, manifest: Manifest) -> dict[str, Any]:
    if _RECIPE_FILE not in manifest.files:
        return {}
    text = check_file(version.path, manifest, _RECIPE_FILE).read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    return recipe if isinstance(recipe, dict) else {}


def _look_up(recipe: Mapping[str, Any], key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
