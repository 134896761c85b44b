import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bmp.artifact.manifest import (
    MANIFEST_FILE,
    Lineage,
    Manifest,
    Variant,
    digest_file,
    digest_files,
    write_manifest,
)
from bmp.cli import main, transfer
from bmp.cli.options import print_rows
from bmp.registry import Registry
from bmp.signature import Signature, TensorSpec
from tests.measurements import make_measurement


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BMP_REGISTRY", raising=False)


def make_artifact(directory, score=0.9, epochs=3, parent=None, size=6, labels=("no", "yes")):
    (directory / "bmp").mkdir(parents=True)
    (directory / "model.tflite").write_bytes(b"tflite" + bytes([epochs]))
    (directory / "bmp" / "recipe.yaml").write_text(yaml.safe_dump({"seed": 7, "train": {"epochs": epochs}}))
    figures = {"size_bytes": 7, "gzip_bytes": 5, "latency_batch1_ms": 0.25, "latency_batch32_ms": 2.5}
    measured = make_measurement(score, test_metrics={"accuracy": score}, **figures)
    inputs, outputs = (TensorSpec("image", "float32", (size,)),), (TensorSpec("probabilities", "float32", (2,)),)
    manifest = Manifest(
        schema_version=1,
        name="digits",
        created=datetime(2026, 1, epochs, 3, 4, tzinfo=UTC),
        signature=Signature(inputs, outputs).to_dict(),
        labels=labels,
        recommended="int8",
        max_drop=0.01,
        variants=(Variant(name="int8", file="model.tflite", verdict="recommended: small", measured=measured),),
        lineage=Lineage(
            recipe_sha256="a" * 64,
            data_sha256="b" * 64,
            parent_version=parent,
            code_version="1.0",
            packages={"numpy": str(epochs)},
            machine="x86_64",
        ),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)
    return directory


@pytest.fixture
def registry(tmp_path):
    """Three versions of digits, of which production is the second, and one of letters."""
    registry = Registry(tmp_path / "registry")
    for epochs in (1, 2, 3):
        artifact = make_artifact(
            tmp_path / f"a{epochs}", score=0.9 + epochs / 100, epochs=epochs, parent=1 if epochs == 3 else None
        )
        registry.publish(artifact, "digits")
    registry.publish(tmp_path / "a1", "letters")
    registry.set_alias("digits", "production", 2)
    return registry


def call(*arguments, exit_code=0):
    result = CliRunner().invoke(main, ["models", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.stdout


def call_json(*arguments, exit_code=0):
    return json.loads(call(*arguments, "--json", exit_code=exit_code))


def refuse(*arguments, exit_code=1):
    """Returns the one sentence that a command is refused with."""
    result = CliRunner().invoke(main, ["models", *arguments])
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert result.stderr.startswith("bmp: ") and result.stderr.count("\n") == 1
    return result.stderr


# === Looking ===


def test_list(registry):
    lines = call("list").splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["digits", "1"],
        ["digits", "2"],
        ["digits", "3"],
        ["letters", "1"],
    ]
    assert lines[3].split() == ["digits", "2", "production", "int8", "0.9200", "accuracy", "7", "2026-01-02", "03:04"]
    rows = call_json("list", "digits")
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert rows[1]["aliases"] == ["production"] and rows[1]["score"] == pytest.approx(0.92)


def test_an_empty_list_is_a_document_and_a_sentence():
    assert call_json("list") == []
    assert "holds no model. Publish one with 'bmp run'" in refuse("list")


def test_show(registry):
    registry.describe("digits", 2, "Reads\ndigits.")
    registry.tag("digits", 2, "stage", "tested")
    said = call("show", "digits")
    for words in (
        "digits/2",
        "production",
        "Reads digits.",
        "stage=tested",
        "image: float32 (B, 6)",
        "no, yes",
        "nobody",
    ):
        assert words in said
    assert "\nmade from  version 1\n" in call("show", "digits/3")
    shown = call_json("show", "digits@production")
    assert (shown["model"], shown["version"], shown["signed_by"]) == ("digits", 2, [])
    assert shown["manifest"] == json.loads((registry.get("digits", 2).path / MANIFEST_FILE).read_text())


def test_card(registry, tmp_path):
    card = call("card", "digits/1")
    assert card.startswith("# digits, version 1\n") and card.endswith("|\n")
    assert call("card", "digits/1", "--output", "card.md") == "the card of digits/1 is in card.md\n"
    assert Path("card.md").read_text() == card
    assert "No such file or directory" in refuse("card", "digits", "--output", "none/card.md", exit_code=2)


def test_nothing_that_others_wrote_steers_the_terminal(registry, tmp_path):
    registry.publish(make_artifact(tmp_path / "evil", labels=("\x1b[2Jred", "a\u202eb\x07")), "digits")
    for arguments in (["show", "digits/4"], ["card", "digits/4"], ["diff", "digits/1", "digits/4"]):
        said = call(*arguments)
        assert "[2Jred" in said and not {"\x1b", "\x07", "\u202e"} & set(said)


def test_diff(registry, tmp_path):
    registry.publish(make_artifact(tmp_path / "a4", epochs=4, size=9), "digits")
    said = call("diff", "digits/3", "digits/4")
    assert re.search(r"^inputs\.image +float32 \(B, 6\) +float32 \(B, 9\) *$", said, re.MULTILINE)
    assert re.search(r"^packages\.numpy +3 +4 *$", said, re.MULTILINE)
    assert "-  epochs: 3\n+  epochs: 4\n" in said
    assert "changed:  bmp/recipe.yaml, model.tflite\n" in said
    found = call_json("diff", "digits/3", "digits/4")
    assert found["differences"]["test.accuracy"] == pytest.approx([0.93, 0.9])
    assert found["files"] == {"added": [], "removed": [], "changed": ["bmp/recipe.yaml", "model.tflite"]}
    assert found["recipe"][-2:] == ["-  epochs: 3", "+  epochs: 4"]


def test_what_is_the_same_is_said_to_be(registry):
    said = call("diff", "digits/1", "letters/1")
    assert "digits/1 and letters/1 take and give the same" in said and "every file is the same" in said
    assert call_json("diff", "digits/1", "letters")["differences"] == {}


def test_history_and_rollback(registry):
    assert call("promote", "digits") == "digits@production is version 3\n"
    assert call("rollback", "digits") == "digits@production is version 2 again\n"
    assert call("promote", "digits@production", "--to", "canary") == "digits@canary is version 2\n"
    assert call("alias", "digits", "canary", "--remove") == "digits@canary is removed\n"
    lines = [line.split(maxsplit=2)[2].strip() for line in call("history", "digits").splitlines()[1:]]
    assert lines == [
        "version 1 published, int8, accuracy 0.9100",
        "version 2 published, int8, accuracy 0.9200",
        "version 3 published, int8, accuracy 0.9300",
        "alias production set to 2",
        "alias production moved from 2 to 3",
        "alias production rolled back from 3 to 2",
        "alias canary set to 2",
        "alias canary removed from 2",
    ]
    assert [event["event"] for event in call_json("history", "digits")] == ["publish"] * 3 + ["alias"] * 5
    assert "named nothing before version 2" in refuse("rollback", "digits")


def test_at(registry):
    moved = registry.history("digits")[-1].time
    before, after = (moved + timedelta(milliseconds=step) for step in (-1, 0))
    assert call_json("at", "digits", after.isoformat())["version"] == 2
    assert call_json("at", "digits@production", before.isoformat())["version"] is None
    assert call("at", "digits", "2026-01-01T00:00Z").startswith("digits@production named no version at 202")
    assert "was version 2 at" in call("at", "digits", after.isoformat())


def test_lineage(registry):
    lines = call("lineage", "digits").splitlines()
    assert [line.partition("  int8")[0] for line in lines] == ["digits", "├── 1", "│   └── 3", "└── 2"]
    assert "data bbbbbbbb  recipe aaaaaaaa  bmp 1.0" in lines[1]
    (first, second) = call_json("lineage", "digits")
    assert [child["version"] for child in first["children"]] == [3] and second["children"] == []


# === Changing ===


def test_alias_only_where_nobody_moved_it(registry):
    assert call("alias", "digits", "production", "3", "--expected", "2") == "digits@production is version 3\n"
    assert "names version 3, not version 2 as expected" in refuse(
        "alias", "digits", "production", "1", "--expected", "2"
    )
    assert call("alias", "digits", "canary", "1", "--expected", "nothing") == "digits@canary is version 1\n"
    assert "not nothing as expected" in refuse("alias", "digits", "canary", "2", "--expected", "nothing")
    assert registry.aliases("digits") == {"production": 3, "canary": 1}


def test_tags_and_description(registry):
    assert call("tag", "digits/1", "stage=tested", "owner=me") == "digits/1: stage=tested, owner=me\n"
    assert call("tag", "digits/1", "stage=") == "digits/1: owner=me\n"
    assert call("tag", "digits/1", "owner=") == "digits/1: no tags\n"
    assert call("describe", "digits/1", "Reads digits.") == "digits/1 is described\n"
    assert registry.metadata("digits", 1).description == "Reads digits."


def test_gc(registry):
    removed = call("gc", "digits", "--keep", "1").splitlines()
    assert removed[0].startswith("digits/1 is removed: ") and removed[1].startswith("1 version removed, ")
    with registry.lease(registry.get("digits", 2)):
        registry.set_alias("digits", "production", 3)
        found = call_json("gc")
    assert found == {"removed": [], "in_use": [{"model": "digits", "version": 2}], "freed_bytes": 0}
    assert registry.versions("digits") == [2, 3]


def test_verify_and_repair(registry):
    assert call("verify") == "4 versions checked: every file is as published\n"
    assert call("verify", "digits/1") == "1 version checked: every file is as published\n"
    file = registry.get("digits", 1).path / "model.tflite"
    file.write_bytes(b"x")
    for reference, count in (("digits", 3), ("digits/1", 1)):
        said = call("verify", reference, exit_code=1)
        assert "has been altered" in said and f"{count} version{'s' * (count > 1)} checked: 1 problem\n" in said
    found = call_json("verify", exit_code=1)
    assert [(each["model"], each["version"], each["kind"]) for each in found["problems"]] == [("digits", 1, "altered")]
    assert call("verify", "digits/2") == "1 version checked: every file is as published\n"


def test_repair(registry):
    (registry.root / "digits" / "aliases.json").unlink()
    assert "'bmp models repair digits' puts right what a crash left" in call("verify", exit_code=1)
    assert "mended: " in call("repair", "digits")
    assert call("verify", "digits") == "3 versions checked: every file is as published\n"
    assert call("repair") == "there was nothing to mend\n"
    assert call_json("repair") == []


def test_verify_does_not_take_a_slip_for_a_sound_registry():
    assert "holds no model" in refuse("verify", "--registry", "elsewhere")


# === Signing, carrying elsewhere ===


def test_keys_sign_and_verify(registry):
    key = re.fullmatch(r"key ([0-9a-f]{16}): sign with k, verify with k\.pub\n", call("keygen", "k"))[1]
    assert call("sign", "digits", "--key", "k") == f"digits/2 is signed by key {key}\n"
    assert call_json("show", "digits/2")["signed_by"] == [key]
    said = "1 version checked: every file is as published, every version is signed\n"
    assert call("verify", "digits/2", "--key", "k.pub") == said
    call("keygen", "other")
    assert call("verify", "digits/2", "--key", "other.pub", "--key", "k.pub") == said
    assert "is signed by key" in call("verify", "digits/2", "--key", "other.pub", exit_code=1)
    assert call("verify", "digits", "--key", ".", exit_code=1).count("is not signed") == 2
    assert "exists already" in refuse("keygen", "k", exit_code=2)
    assert "holds a public key" in refuse("sign", "digits", "--key", "k.pub", exit_code=2)


def test_a_private_key_that_others_can_read_is_told(registry, tmp_path):
    call("keygen", "k")
    (tmp_path / "k").chmod(0o644)
    result = CliRunner().invoke(main, ["models", "sign", "digits", "--key", "k"])
    assert result.exit_code == 0 and result.stderr == "bmp: k can be read by others (mode 644); run 'chmod 600 k'.\n"


def test_export_and_import(registry, monkeypatch):
    looked = []
    monkeypatch.setattr(transfer, "check_content", lambda directory: looked.append(directory.name))
    said = call("export", "digits@production", "d.tar")
    entry = digest_file(Path("d.tar"))
    assert said == f"digits/2 is in d.tar: {entry.size_bytes:,} bytes, SHA-256 {entry.sha256}\n"
    assert call("import", "d.tar", "--registry", "other") == "published  other/digits/1  (version 1)\n"
    assert call("import", "d.tar", "--name", "new") == "published  registry/new/1  (version 1)\n"
    assert looked == ["version", "version"]
    assert call("import", "d.tar", "--trust") == "published  registry/digits/4  (version 4)\n"
    assert looked == ["version", "version"]
    assert f"SHA-256 {entry.sha256}), which held digits/2" in call("history", "digits").replace("\n", "")


def test_what_is_imported_is_looked_into(registry, tmp_path):
    """The model of this registry is no model at all: the first thing that looks into it says so."""
    call("export", "digits", "d.tar")
    assert "d.tar: model.tflite is no whole LiteRT model" in refuse("import", "d.tar", "--registry", "other")
    assert not (tmp_path / "other").exists()


# === Slips ===


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["list", "digit"], 1, "Did you mean 'digits'?"),
        (["show", "digit"], 1, "No model is named 'digit'. Published: digits, letters. Did you mean 'digits'?"),
        (["show", "digits/7"], 1, "has no version 7; it has 1, 2, 3"),
        (["show", "digits@prodution"], 1, "Did you mean 'production'?"),
        (["show", "digits/production"], 2, "Did you mean 'digits@production'?"),
        (["show", "digits@"], 2, "ends too early; expected MODEL, MODEL@ALIAS or MODEL/VERSION"),
        (["show", "../digits"], 2, "no model name"),
        (["card", "digits/0"], 2, "no version of 'digits'"),
        (["diff", "digits/1", "digits/9"], 1, "has no version 9"),
        (["history", "digts"], 1, "Did you mean 'digits'?"),
        (["lineage", "digts"], 1, "Did you mean 'digits'?"),
        (["at", "digits", "yesterday"], 2, "'yesterday' is no time; expected one such as 2026-11-25"),
        (["at", "digits", "9999-12-31"], 2, "is yet to come"),
        (["at", "digits/1", "2026-01-01"], 2, "names a version; expected an alias, such as digits@production"),
        (["at", "digits@prod", "2026-01-01"], 1, "never had an alias 'prod'. Aliases so far: production."),
        (["rollback", "digits/2"], 2, "expected an alias"),
        (["rollback", "digits@prodution"], 1, "Did you mean 'production'?"),
        (["promote", "digits/9"], 1, "has no version 9"),
        (["promote", "digits/1", "--to", "A B"], 2, "no alias"),
        (["alias", "digits", "production"], 2, "either a VERSION that the alias is to name, or --remove"),
        (["alias", "digits", "production", "1", "--remove"], 2, "either a VERSION"),
        (["alias", "digits", "production", "1", "--expected", "x"], 2, "--expected is 'x'"),
        (["alias", "digits", "canary", "--remove"], 1, "has no alias 'canary'"),
        (["tag", "digits", "stage"], 2, "has no '='; expected KEY=VALUE"),
        (["tag", "digits", "A B=c"], 2, "no key of a tag"),
        (["verify", "digts"], 1, "Did you mean 'digits'?"),
        (["verify", "--key", "none.pub"], 2, "none.pub cannot be read"),
        (["repair", "digts"], 1, "Did you mean 'digits'?"),
        (["gc", "digts"], 1, "Did you mean 'digits'?"),
        (["sign", "digits", "--key", "none"], 2, "none cannot be read"),
        (["export", "digits", "d.zip"], 2, "ends in .tar"),
        (["export", "digits", "none/d.tar"], 1, "cannot be written: No such file"),
        (["import", "none.tar"], 1, "There is no file 'none.tar'"),
        (["import", "registry"], 1, "is no plain file"),
    ],
)
def test_a_slip_is_one_sentence_and_changes_nothing(registry, tmp_path, arguments, exit_code, says):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert says in refuse(*arguments, exit_code=exit_code)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_many_rows_are_printed_in_columns(capsys):
    rows = [(f"model{number}", str(number)) for number in range(501)]
    print_rows(("name", "a\nnumber"), rows, right=("a\nnumber",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["name      a number", "model0           0"] and lines[-1] == "model500       500"
