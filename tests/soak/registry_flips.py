"""Bits flipped at random, one at a time, over every file of a model: verify finds it, and no server serves it.

The model is signed. Each flip is looked at as `bmp models verify --key` does, by a server that asks for a signature,
and by one that does not: such a server may go on with a file that it never reads.
"""

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from bmp.cli import main
from bmp.registry import Registry
from bmp.registry.keys import PublicKeys, read_private_key, read_public_keys, write_keys
from bmp.registry.signing import sign_version
from serving.service import Service
from tests.hostile.artifact import lay_out, seal
from tests.soak.tally import Tally

_NAME = "model"
_ASKED = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
_READ = ("bmp/manifest.json", "bmp/samples.npz", "model.tflite")
"""What a server reads of a version; one that asks for a signature looks at every file."""
Answer = tuple[int, bytes]
"""A version, and what it answers."""


def flip(root: Path, rng: random.Random, flips: int) -> Tally:
    """Flips, looks, and puts the byte back."""
    tally = Tally("registry-flips", "flipped bits were found by verify, and 0 were served")
    registry, key = _make_registry(root)
    keys = read_public_keys(key)
    sound = [_serve(registry, keys), _serve(registry, None)]
    known = [_ask(registry, number) for number in registry.versions(_NAME)]
    files = [path for path in sorted((registry.root / _NAME).rglob("*")) if path.is_file() and path.stat().st_size]
    hits, refused = Counter[str](), Counter[str]()
    with _quiet():
        for _ in range(flips):
            file = rng.choice(files)
            with _flipped(file, rng) as where:
                trouble = _find_unseen(registry, key) or _find_served(registry, file, keys, known, refused)
            hits[_name(file, registry)] += 1
            tally.add(not trouble, f"{file}, {where}: {trouble}")
    if sound != [_serve(registry, keys), _serve(registry, None)]:
        tally.add(False, "with every byte put back, the servers do not answer as before")
    tally.note(f"in {', '.join(f'{name} {count}' for name, count in sorted(hits.items()))}")
    tally.note(f"refused by a server that asks for a signature {refused['signed']} times, by another {refused['any']}")
    return tally


def _make_registry(root: Path) -> tuple[Registry, Path]:
    """Publishes and signs two versions that answer differently, and returns them with the public key."""
    registry, key = Registry(root / "registry"), root / "key"
    write_keys(key)
    for number in range(2):
        artifact = lay_out(root / f"artifact-{number}")
        if number:
            path = artifact / "model.tflite"
            path.write_bytes(path.read_bytes().replace(np.ones(3, "<f4").tobytes(), np.zeros(3, "<f4").tobytes()))
        version = registry.publish(seal(artifact), _NAME)
        sign_version(version, read_private_key(key), registry.signature_file(_NAME, version.number))
    registry.set_alias(_NAME, "production", 1)
    registry.set_alias(_NAME, "production", 2)
    return registry, key.with_suffix(".pub")


@contextmanager
def _flipped(file: Path, rng: random.Random) -> Iterator[str]:
    """Flips a bit of a file for a while."""
    before, status = file.read_bytes(), file.stat()
    place, bit = rng.randrange(len(before)), rng.randrange(8)
    data = bytearray(before)
    data[place] ^= 1 << bit
    file.write_bytes(data)
    try:
        yield f"bit {bit} of byte {place:,}"
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _find_unseen(registry: Registry, key: Path) -> str:
    """Returns in words that verify does not find a flip."""
    line = ["models", "verify", _NAME, "--registry", str(registry.root), "--key", str(key)]
    result = CliRunner().invoke(main, line)
    if result.exit_code == 1 and isinstance(result.exception, SystemExit):
        return ""
    return f"verify ended with {result.exit_code}: {result.output}{result.exception!r}"


def _find_served(registry: Registry, file: Path, keys: PublicKeys, known: list[Answer], refused: Counter[str]) -> str:
    """Returns in words that a server serves what was altered, or answers what no version ever did."""
    altered, name = _number(file, registry), _name(file, registry)
    for kind, trusted in (("signed", keys), ("any", None)):
        served = _serve(registry, trusted)
        refused[kind] += served is None
        if served is None:
            continue
        if served not in known:
            return f"a server answers as no version does: {served}"
        if served[0] == altered and (trusted is not None or name in _READ):
            return f"a server serves version {altered}"
    return ""


def _serve(registry: Registry, keys: PublicKeys | None) -> Answer | None:
    """Returns what a server that starts now answers; None where it serves nothing."""
    service = Service(registry, keys=keys)
    service.load()
    models = service.models()
    if not models:
        return None
    (answer,) = models[0].predict({"x": _ASKED}).values()
    return models[0].version, answer.tobytes()


def _ask(registry: Registry, number: int) -> Answer:
    from serving.models.model import load_model

    (answer,) = load_model(registry.get(_NAME, number)).predict({"x": _ASKED}).values()
    return number, answer.tobytes()


def _number(file: Path, registry: Registry) -> int | None:
    """Returns the version that a file, or a signature, is of."""
    parts = file.relative_to(registry.root / _NAME).parts
    number = Path(parts[1]).stem if parts[0] == ".signatures" else parts[0]
    return int(number) if number.isdecimal() else None


def _name(file: Path, registry: Registry) -> str:
    """Returns what a file is, whichever version it belongs to."""
    parts = file.relative_to(registry.root / _NAME).parts
    return "/".join(parts[1:]) if parts[0].isdecimal() else "signatures" if parts[0] == ".signatures" else parts[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the servers from telling each refusal."""
    logger = logging.getLogger("serving")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
