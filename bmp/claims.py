"""The claims of a published version, measured again: `bmp compress verify`."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bmp.artifact.manifest import Manifest, Variant, check_files
from bmp.artifact.proof import evaluate, load_runner
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.artifact.sizes import measure_sizes
from bmp.compress import Opened, open_version
from bmp.compression.chain import UNCOMPRESSED
from bmp.compression.gate import Paired, judge, record
from bmp.compression.search.contest import promise_of
from bmp.data import Dataset
from bmp.errors import ArtifactError
from bmp.registry import Registry, Version

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Claim:
    """One thing that a manifest says.

    Args:
        what: Of which variant, and which figure.
        claimed: As the manifest says it.
        found: As it was measured now.
        holds: Whether both agree.
    """

    what: str
    claimed: str
    found: str
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes."""
        return asdict(self)


def verify(reference: str, *, registry: str = "registry", console: Console | None = None) -> list[Claim]:
    """Measures again what a version claims, and says so: digests, sizes, every metric on the test split, the promise.

    Latency is no claim: it is another on another machine, and at another time.

    Args:
        reference: `name`, `name@alias` or `name/version`.
        registry: Directory of the registry.
        console: Where the table goes; by default standard output.

    Raises:
        NotFoundError: There is no such model, version or alias.
        DataError: The examples are not there, or not those the version was made from.
    """
    console = console or Console()
    opened = open_version(Registry(registry), reference, (), None, console)
    version, data = opened.version, opened.data
    manifest = version.read_manifest()
    claims = [_check_files(version, manifest)]
    with console.status("measuring again"):
        for variant in manifest.variants:
            if variant.file is not None:
                claims += _check_variant(version, variant, data)
        claims += _check_promise(opened, manifest)
    console.print(_build_table(f"{version.name}/{version.number}", claims))
    return claims


def _check_files(version: Version, manifest: Manifest) -> Claim:
    try:
        check_files(version.path, manifest)
    except ArtifactError as error:
        return Claim("files", f"{len(manifest.files)}, byte for byte", error.message, False)
    return Claim("files", f"{len(manifest.files)}, byte for byte", "the same", True)


def _check_variant(version: Version, variant: Variant, data: Dataset) -> Iterator[Claim]:
    assert variant.file is not None
    path, said = version.path / variant.file, variant.measured
    if path.name != SAVED_MODEL_FILE:
        sizes = measure_sizes([path])
        yield _compare_counts(f"{variant.name}: bytes", said.size_bytes, sizes.raw_bytes)
        # Another version of zlib may pack a little otherwise.
        yield _compare_counts(f"{variant.name}: bytes gzipped", said.gzip_bytes, sizes.gzip_bytes, share=0.01)
    metrics = evaluate(load_runner(path, data.signature), data.test).result()
    for name, value in said.test_metrics.items():
        found = metrics.get(name, float("nan"))
        holds = abs(found - value) <= _ROUNDING * max(1.0, abs(value))
        yield Claim(f"{variant.name}: {name} on the test split", f"{value:.6g}", f"{found:.6g}", holds)


def _compare_counts(what: str, claimed: int, found: int, share: float = 0.0) -> Claim:
    return Claim(what, f"{claimed:,}", f"{found:,}", abs(found - claimed) <= share * claimed)


def _check_promise(opened: Opened, manifest: Manifest) -> Iterator[Claim]:
    version, data = opened.version, opened.data
    said = manifest.promise
    original = manifest.variant(UNCOMPRESSED)
    recommended = manifest.variant(manifest.recommended)
    if said is None or original.file is None or recommended.file is None:
        return
    before, after = (
        record(load_runner(version.path / file, data.signature), data.test)
        for file in (original.file, recommended.file)
    )
    promise = replace(
        promise_of(opened.recipe.compress), max_drop=said.max_drop, metric=said.metric, confidence=said.confidence
    )
    verdict = judge(Paired(before, after), promise, seed=opened.recipe.seed)
    holds = verdict.kind == said.verdict and abs(verdict.high - said.high) <= 1e-3
    yield Claim(
        f"{recommended.name}: promise",
        f"{said.verdict}: {said.metric} at most {said.high:.4f} worse",
        f"{verdict.kind}: at most {verdict.high:.4f}",
        holds,
    )


def _build_table(title: str, claims: list[Claim]) -> Table:
    table = Table(
        title=f"{title}: claims, measured again", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in ("", "claimed", "found", "holds"):
        table.add_column(heading)
    for claim in claims:
        style = "" if claim.holds else "bold red"
        table.add_row(claim.what, claim.claimed, claim.found, "yes" if claim.holds else "NO", style=style)
    return table
