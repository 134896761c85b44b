import json
import re
from datetime import UTC, datetime

import pytest
import yaml

from bmp.artifact.manifest import (
    Imported,
    Lineage,
    Manifest,
    PromiseEntry,
    Variant,
    digest_files,
    write_manifest,
)
from bmp.errors import ArtifactError
from bmp.registry.card import build_card
from bmp.registry.request import build_request
from bmp.registry.version import Version
from bmp.signature import Signature, TensorSpec
from tests.measurements import make_measurement

SIGNATURE = Signature((TensorSpec("image", "float32", (2, 3)),), (TensorSpec("probabilities", "float32", (2,)),))
RECIPE = {
    "seed": 7,
    "data": {"source": "csv", "args": {"path": "a.csv"}, "batch_size": 64},
    "model": {"build": "mlp", "args": {}},
    "train": {"epochs": 3, "optimizer": "adam", "learning_rate": 0.01, "schedule": "constant", "steps": None},
}


def measure(score=0.9, size_bytes=1234):
    metrics = {} if score is None else {"accuracy": score, "log_loss": 0.5}
    figures = {"size_bytes": size_bytes, "gzip_bytes": 900, "latency_batch1_ms": 0.25, "latency_batch32_ms": 2.5}
    return make_measurement(score, test_metrics=metrics, **figures)


def make_version(directory, recipe=RECIPE, lineage=None, **changes):
    """A version that is but a manifest and a recipe."""
    if recipe is not None:
        (directory / "bmp").mkdir(parents=True)
        (directory / "bmp" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    origin = {"recipe_sha256": "a" * 64, "data_sha256": "b" * 64, "parent_version": 3, "code_version": "1.2"}
    fields = {
        "schema_version": 1,
        "name": "digits",
        "created": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "signature": SIGNATURE.to_dict(),
        "labels": ("no", "yes"),
        "recommended": "int8",
        "max_drop": 0.02,
        "variants": (
            Variant(name="float32", file="f", verdict="passed", measured=measure(0.95)),
            Variant(name="int8", file="model.tflite", verdict="recommended: the smallest", measured=measure()),
        ),
        "lineage": Lineage(**origin | {"packages": {"numpy": "2"}, "machine": "x86_64"} | (lineage or {})),
        "files": digest_files(directory),
    }
    write_manifest(Manifest(**fields | changes), directory)
    return Version("digits", 4, directory)


def read_sections(card):
    parts = re.split(r"^## (.+)\n\n", card, flags=re.MULTILINE)
    return parts[0], dict(zip(parts[1::2], parts[2::2], strict=True))


def read_tables(card):
    """Every table as rows of cells, each of as many as the first has."""
    tables = re.findall(r"(?:^\|.*\|\n)+", card, flags=re.MULTILINE)
    found = [[re.split(r"(?<!\\)\|", line.strip("|")) for line in table.splitlines()] for table in tables]
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}, table
    return found


def test_a_card_says_everything_once(tmp_path):
    promise = PromiseEntry(
        metric="accuracy", max_drop=0.02, confidence=0.95, verdict="proven", drop=0.004, low=0, high=0.015,
        examples=269, needed=None, method="bca",
    )  # fmt: skip
    card = build_card(make_version(tmp_path, promise=promise), "Finds digits.\n# Not a heading", {"stage": "tested"})
    head, sections = read_sections(card)
    assert head.startswith("# digits, version 4\n") and "| tag stage | tested |" in head
    assert "| answers with | one of 2 classes |" in head and "| accuracy | 0.9000 on the test split |" in head
    assert list(sections) == [
        *("Intended use", "What goes in", "What comes out", "How to ask it", "Results", "Variants", "Promise"),
        *("Data", "Training", "Lineage"),
    ]
    assert sections["Intended use"] == "> Finds digits.\n> # Not a heading\n\n"
    assert "| `image` | float32 | 2 × 3 |" in sections["What goes in"]
    assert "Labels, in the order of the output: `no`, `yes`." in sections["What comes out"]
    assert "| accuracy | 0.9500 | 0.9000 |" in sections["Results"]
    assert "| `int8` | 0.9000 | 0.9000 | 1,234 | 900 | 0.250 | 2.500 | recommended: the smallest |" in card
    assert sections["Promise"].startswith("**Proven**: on 269 examples, accuracy was 0.0040 worse than the")
    assert "| source | `csv` |" in sections["Data"] and "| epochs | `3` |" in sections["Training"]
    assert "steps" not in sections["Training"]
    assert "| made from | version 3 |" in sections["Lineage"] and "b" * 64 in sections["Lineage"]
    assert len(read_tables(card)) == 8


def test_what_nobody_described_says_how(tmp_path):
    _, sections = read_sections(build_card(make_version(tmp_path)))
    assert "`bmp models describe digits/4 TEXT`" in sections["Intended use"]
    assert "Promise" not in sections


def test_a_model_that_was_imported_has_no_scores_and_says_where_it_came_from(tmp_path):
    imported = Imported(
        format="h5", file="net.h5", sha256="c" * 64, size_bytes=99, engine="keras 3", trusted=True, confined=False,
        samples="16 random inputs", differences={"litert": 1e-7}, left_out={"saved_model": "it cannot"},
    )  # fmt: skip
    only = Variant(name="float32", file="model.tflite", verdict="recommended: the only one", measured=measure(None))
    version = make_version(
        tmp_path,
        recipe=None,
        lineage={"recipe_sha256": None, "data_sha256": None, "parent_version": None, "imported": imported},
        variants=(only,),
        recommended="float32",
    )
    card = build_card(version)
    head, sections = read_sections(card)
    assert "on the test split" not in head
    assert not {"Results", "Data", "Training"} & set(sections)
    assert "| `float32` | – | – |" in sections["Variants"]
    assert "`net.h5`, h5, 99 bytes; not looked into: its owner vouched for it" in sections["Import"]
    assert (
        "| litert differs by | 1e-07 |" in sections["Import"] and "| no saved_model | it cannot |" in sections["Import"]
    )
    assert "None" not in card
    read_tables(card)


def test_nothing_in_a_manifest_breaks_the_page(tmp_path):
    evil = "a|b`c\n## Fake <script> [x](y) *z*"
    signature = Signature((TensorSpec(evil, "float32", (2,)),), SIGNATURE.outputs)
    version = make_version(
        tmp_path,
        recipe={"model": {"build": evil}, "data": [evil], "train": evil},
        labels=(evil, " "),
        signature=signature.to_dict(),
        lineage={"run": evil, "machine": evil},
    )
    card = build_card(version, evil, {"stage": evil})
    assert "\n## Fake" not in card.replace("\n> ## Fake", "")
    assert "<script>" not in re.sub(r"`[^`\n]*`|```.*?```|^> .*$|\\<", "", card, flags=re.DOTALL | re.MULTILINE)
    read_tables(card)


def test_an_altered_recipe_is_not_told(tmp_path):
    version = make_version(tmp_path)
    (tmp_path / "bmp" / "recipe.yaml").write_text("seed: 8")
    with pytest.raises(ArtifactError, match="has been altered"):
        build_card(version)


# === A request ===


def ask(directory, fields=None, steps=(), **changes):
    preprocessing = None if fields is None else {"fields": fields, "steps": list(steps)}
    manifest = make_version(directory, preprocessing=preprocessing, **changes).read_manifest()
    return build_request("digits", manifest)


TOKENIZE = {"kind": "tokenize", "field": "text", "tokenizer": "bytes", "length": 8}


def test_tensors_are_spelled_out_where_they_are_short(tmp_path):
    kind, body = ask(tmp_path)
    assert kind == "application/json"
    assert json.loads(body) == {"model": "digits", "x_test": [[[0, 0, 0], [0, 0, 0]]]}


def test_several_inputs_go_by_name(tmp_path):
    inputs = (TensorSpec("a", "float32", ()), TensorSpec("b", "int64", (None,)))
    _, body = ask(tmp_path, signature=Signature(inputs, SIGNATURE.outputs).to_dict())
    assert json.loads(body)["x_test"] == {"a": [0], "b": [[0]]}


def test_of_large_tensors_the_form_is_shown(tmp_path):
    signature = Signature((TensorSpec("image", "float32", (224, 224, 3)),), SIGNATURE.outputs)
    _, body = ask(tmp_path, signature=signature.to_dict())
    assert body == '{"model": "digits", "x_test": [[[[0, 0, 0], …], …]]}'


def test_a_text_is_sent_as_it_is(tmp_path):
    fields = [{"name": "text", "kind": "text"}]
    assert ask(tmp_path, fields, [TOKENIZE]) == ("text/plain", "…")


def test_a_table_goes_by_name(tmp_path):
    fields = [{"name": "age", "kind": "number"}, {"name": "it's", "kind": "category"}]
    steps = [{"kind": "one_hot", "fields": ["it's"]}]
    kind, body = ask(tmp_path, fields, steps)
    assert (kind, json.loads(body)["instances"]) == ("application/json", [{"age": 0, "it's": "…"}])
    card = build_card(Version("digits", 4, tmp_path))
    assert '\'{"model": "digits", "instances": [{"age": 0, "it\'"\'"\'s": "…"}]}\'' in card
    assert "| `age` | number |  |" in card and "transforms them itself: `one_hot`." in card
