"""What a large registry costs: listing it, finding a version in it, and the memory that takes.

Makes a registry of `--models` models with `--versions` versions each (one is published, the others are copies of it, by
hard links), and asks it in processes of their own:

  list     what `bmp models list` shows of every version, out of the journals
  manifests  the same out of the manifests, for comparison
  resolve  from a name, and an alias where there is one, to a version
  watch    one look for news, when there are none
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bmp.artifact.manifest import Lineage, Manifest, Measurement, Variant, digest_files, write_manifest
from bmp.registry import Registry
from bmp.registry.watch import Watcher

LIST_S, RESOLVE_MS = 1.0, 1.0
"""The figures to reach."""
REPEATS = 5


def make_artifact(directory: Path) -> Path:
    """A manifest of the length that a classifier's has, and little else."""
    directory.mkdir()
    (directory / "model.tflite").write_bytes(b"model")
    measured = Measurement(
        validation_score=0.9,
        test_score=0.9,
        test_metrics={"accuracy": 0.9, "log_loss": 0.3, "f1": 0.9},
        max_abs_diff=0.0,
        sparsity=0.8,
        size_bytes=10_000,
        gzip_bytes=5_000,
        latency_batch1_ms=0.01,
        latency_batch32_ms=0.1,
    )
    names = ("float32", "float16", "int8", "prune", "prune+int8", "cluster")
    manifest = Manifest(
        schema_version=1,
        name="model",
        created=datetime.now(UTC),
        signature={"inputs": [], "outputs": []},
        labels=tuple(f"class {number}" for number in range(10)),
        recommended="int8",
        max_drop=0.01,
        variants=tuple(Variant(name=name, file="model.tflite", verdict="passed", measured=measured) for name in names),
        lineage=Lineage(
            recipe_sha256="0" * 64,
            data_sha256="0" * 64,
            parent_version=None,
            code_version="1.0",
            packages={f"package-{number}": "1.0" for number in range(10)},
            machine="one",
        ),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)
    return directory


def make_registry(root: Path, models: int, versions: int) -> None:
    """Publishes one model, and copies it: no journal holds the name of its model."""
    registry, artifact = Registry(root), make_artifact(root.parent / "artifact")
    for _ in range(versions):
        registry.publish(artifact, "model-0")
    for number in range(1, versions, 5):
        registry.set_alias("model-0", "production", number)
    for number in range(1, models):
        shutil.copytree(root / "model-0", root / f"model-{number}", copy_function=os.link)


def list_summaries(registry: Registry) -> int:
    return sum(1 for _ in registry.summaries())


def list_manifests(registry: Registry) -> int:
    count = 0
    for name in registry.models():
        registry.aliases(name)
        for number in registry.versions(name):
            registry.get(name, number).read_manifest()
            count += 1
    return count


def resolve(registry: Registry) -> int:
    names = registry.models()[:200]
    times = []
    for name in names:
        start = time.perf_counter()
        registry.resolve(name)
        times.append(time.perf_counter() - start)
    return round(1e9 * statistics.median(times))


def look(registry: Registry) -> int:
    watcher = Watcher(registry.root)
    start = time.perf_counter()
    watcher.poll()
    return round(1e9 * (time.perf_counter() - start))


PARTS: dict[str, Callable[[Registry], int]] = {
    "list": list_summaries,
    "manifests": list_manifests,
    "resolve": resolve,
    "watch": look,
}


def ask(part: str, root: Path) -> dict[str, float]:
    """Runs one part in this process."""
    registry = Registry(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = PARTS[part](registry)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "result": result, "grown_mb": grown}


def ask_apart(part: str, root: Path, repeats: int) -> dict[str, float]:
    """Runs one part in processes of its own, and returns the median of each number."""
    command = [sys.executable, __file__, "--part", part, "--root", str(root)]
    answers = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(repeats)]
    return {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}


def show(found: dict[str, dict[str, float]], models: int, versions: int) -> bool:
    """Prints the figures, and returns whether they are met."""
    listing, manifests, one, news = (found[part] for part in ("list", "manifests", "resolve", "watch"))
    resolve_ms, look_ms = one["result"] / 1e6, news["result"] / 1e6
    table = Table("what", "figure", "aim", box=None, pad_edge=False)
    table.add_row("list", f"{listing['seconds']:.2f} s", f"≤ {LIST_S:g} s")
    table.add_row("  memory it takes", f"{listing['grown_mb']:.1f} MB", "flat")
    table.add_row("  out of the manifests", f"{manifests['seconds']:.2f} s", "")
    table.add_row("resolve", f"{resolve_ms:.2f} ms", f"≤ {RESOLVE_MS:g} ms")
    table.add_row("one look for news", f"{look_ms:.1f} ms", "")
    Console().print(f"{models:,} models × {versions} versions", table, sep="\n")
    assert listing["result"] == manifests["result"] == models * versions
    return listing["seconds"] <= LIST_S and resolve_ms <= RESOLVE_MS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(ask(options.part, options.root)))
        return
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "registry"
        make_registry(root, options.models, options.versions)
        found = {part: ask_apart(part, root, 1 if part == "manifests" else REPEATS) for part in PARTS}
    sys.exit(0 if show(found, options.models, options.versions) else 1)


if __name__ == "__main__":
    main()
