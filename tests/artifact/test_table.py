import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from bmp.artifact.manifest import Lineage, Manifest, Variant
from bmp.artifact.table import build_table, explain_verdicts, say_metrics, to_rows
from tests.measurements import make_measurement

NAMES = ("float32", "prune-0.8", "int8", "channels-0.5_two_of_four_cluster-16_int8")
VERDICTS = ("passed", "refused: validation accuracy 0.9 is 0.0800 under", "passed", "recommended: the smallest of 3")


def make_manifest(size_bytes: int, latency_ms: float, name: str = "digits") -> Manifest:
    measured = make_measurement(
        0.98765,
        validation_score=1.0,
        test_metrics={"accuracy": 0.98765, "f1": 0.5},
        max_abs_diff=0.01,
        sparsity=0.8,
        size_bytes=size_bytes,
        gzip_bytes=size_bytes // 2,
        latency_batch1_ms=latency_ms,
        latency_batch32_ms=latency_ms * 20,
    )
    variants = tuple(
        Variant(name=variant, file=None if verdict.startswith("refused") else "x", verdict=verdict, measured=measured)
        for variant, verdict in zip(NAMES, VERDICTS, strict=True)
    )
    lineage = Lineage(recipe_sha256="", data_sha256="", parent_version=None, code_version="", packages={}, machine="")
    return Manifest(
        schema_version=1,
        name=name,
        created=datetime.now(UTC),
        signature={"inputs": [], "outputs": []},
        labels=(),
        recommended=NAMES[-1],
        max_drop=0.01,
        variants=variants,
        lineage=lineage,
        files={},
    )


def render(manifest: Manifest) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=80).print(build_table(manifest))
    return output.getvalue().splitlines()


def test_a_score_that_was_never_measured_is_a_dash():
    manifest = make_manifest(900, 0.001)
    unscored = manifest.variants[0].measured.model_copy(update={"validation_score": None, "test_score": None})
    variant = manifest.variants[0].model_copy(update={"measured": unscored})
    row = next(line for line in render(manifest.model_copy(update={"variants": (variant,)})) if "float32" in line)
    assert row.split()[1:4] == ["–", "–", "80%"]


@pytest.mark.parametrize("name", ["digits", "x" * 64])
@pytest.mark.parametrize(
    ("size_bytes", "latency_ms"),
    [(900, 0.001), (98_765, 0.0123), (9_876_543, 1.5), (98_765_432, 45.678)],
    ids=["tiny", "digits", "10 MB", "100 MB"],
)
def test_nothing_is_cut_off_in_80_columns(size_bytes, latency_ms, name):
    lines = render(make_manifest(size_bytes, latency_ms, name))
    assert max(len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)
    rows = [line.split() for line in lines if "1.0000" in line]
    for words, variant, verdict in zip(rows, NAMES, VERDICTS, strict=True):
        row = words[words.index("1.0000") :]
        assert variant.replace("_", " ").startswith(" ".join(words[: -len(row)]))  # a long name goes on below
        assert row[:3] == ["1.0000", "0.9877", "80%"]
        assert "".join(filter(str.isdigit, row[3])).startswith(str(size_bytes)[:2])
        assert row[-3:] == [f"{latency_ms:.3f}", f"{latency_ms * 20:.3f}", verdict.partition(":")[0]]


def test_the_table_of_a_run_fits_too(quick_run):
    lines = render(quick_run.manifest)
    assert max(len(line) for line in lines) <= 80 and "…" not in "".join(lines)
    assert [line.split()[0] for line in lines if "%" in line] == ["float32", "int8", "prune-0.8", "prune-0.8"]


def test_every_reason_gets_a_line():
    assert explain_verdicts(make_manifest(1, 1)) == [
        "prune-0.8 is refused: validation accuracy 0.9 is 0.0800 under",
        "channels-0.5_two_of_four_cluster-16_int8 is recommended: the smallest of 3",
    ]


def test_rows_are_flat_and_keep_every_figure():
    manifest = make_manifest(1000, 0.5)
    rows = json.loads(json.dumps(to_rows(manifest)))
    assert [row["variant"] for row in rows] == list(NAMES)
    for row, variant in zip(rows, manifest.variants, strict=True):
        figures = variant.measured.model_dump() | {"test_accuracy": 0.98765, "test_f1": 0.5}
        del figures["test_metrics"]
        assert row == {"variant": variant.name, **figures, "verdict": variant.verdict, "file": variant.file}


def test_metrics_stand_in_one_line():
    assert say_metrics({"accuracy": 0.98765, "f1": 0.5}) == "accuracy 0.9877, f1 0.5000"
