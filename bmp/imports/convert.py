"""The first task of an import, inside the sandbox: a file is read, run on examples, and written in bmp's formats."""

from pathlib import Path
from typing import Any

import numpy as np

from bmp.artifact.formats import FORMATS
from bmp.errors import DataError, ExportError
from bmp.imports.content import tell_format
from bmp.imports.data import Examples, check_targets, guess_objective, make_examples, name_classes, read_examples
from bmp.imports.original import Options, Original
from bmp.signature import Arrays, Signature

EXAMPLES_FILE = "examples.npz"
_BATCH_SIZE = 64


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Reads a model, runs it by its own engine, and writes it.

    Args:
        request: `source`, `target` (a directory), `samples` (or None), `labels`, and `options` as `Options` takes them.

    Returns:
        `format`, `engine`, `signature`, `labels`, `samples` in words, `guessed` (whether the objective is a guess),
        `written`, the formats that are in the target, and `left_out`, why others are not.

    Raises:
        UnsafeError: The file could do more than give numbers.
        ArtifactError: It cannot be read.
        DataError: The examples do not fit.
    """
    from bmp.imports.sources import IMPORTERS

    source, target = Path(request["source"]), Path(request["target"])
    options = _read_options(request["options"])
    form = tell_format(source)
    if not options.trust:
        IMPORTERS[form].check(source)
    original = IMPORTERS[form].read(source, options)
    examples = _find_examples(request["samples"], original.signature)
    outputs = _run(original, examples)
    given = tuple(request["labels"]) or original.labels
    objective = options.objective or original.objective or guess_objective(original.signature, outputs, given)
    signature = Signature(original.signature.inputs, original.signature.outputs, objective)
    labels = name_classes(objective, signature, given)
    _keep_examples(examples, outputs, signature, labels, target)
    written, left_out = _write(original, signature, target)
    return {
        "format": form,
        "engine": original.engine,
        "signature": signature.to_dict(),
        "labels": labels,
        "samples": examples.origin,
        "guessed": options.objective is None and original.objective is None,
        "written": written,
        "left_out": left_out,
    }


def _read_options(options: dict[str, Any]) -> Options:
    shape = options["shape"]
    return Options(**{**options, "shape": None if shape is None else tuple(shape)})


def _find_examples(samples: str | None, signature: Signature) -> Examples:
    return make_examples(signature) if samples is None else read_examples(Path(samples), signature)


def _run(original: Original, examples: Examples) -> Arrays:
    """Returns what the file's own engine answers.

    Raises:
        DataError: That is not a finite number for every example.
    """
    count = len(next(iter(examples.inputs.values())))
    parts = [
        original.run({name: array[start : start + _BATCH_SIZE] for name, array in examples.inputs.items()})
        for start in range(0, count, _BATCH_SIZE)
    ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, array in outputs.items():
        if len(array) != count:
            raise DataError(f"The output '{name}' has {len(array)} rows for {count} examples; expected one for each.")
        if not np.isfinite(array).all():
            raise DataError(
                f"The model answers with numbers that are not finite in '{name}', on {examples.origin}. Give examples "
                "of what it was made for with --samples FILE.npz."
            )
    return outputs


def _keep_examples(
    examples: Examples, outputs: Arrays, signature: Signature, labels: tuple[str, ...], target: Path
) -> None:
    targets = examples.targets
    arrays: dict[str, Any] = {f"input.{name}": array for name, array in examples.inputs.items()}
    arrays |= {f"output.{name}": array for name, array in outputs.items()}
    if targets is not None:
        arrays["targets"] = check_targets(targets, signature.objective, signature, labels)
    np.savez(target / EXAMPLES_FILE, **arrays)


def _write(original: Original, signature: Signature, target: Path) -> tuple[list[str], dict[str, str]]:
    written, left_out = [], dict(original.left_out)
    for form, write in original.writers.items():
        try:
            write(signature, target / FORMATS[form].path)
            written.append(form)
        except ExportError as error:
            left_out[form] = error.message
    return written, left_out
