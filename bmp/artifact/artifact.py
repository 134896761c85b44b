"""An artifact in the making: variants exported and laid out, the manifest written last.

saved_model.pb  variables/   model.h5           the uncompressed model
assets.extra/tf_serving_warmup_requests         what TensorFlow Serving runs first
model.tflite                                    the recommended variant
variants/<variant>.tflite                       the others that keep the accuracy promise
bmp/manifest.json  bmp/recipe.yaml  bmp/history.csv  bmp/samples.npz  bmp/plots/history.png
"""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import bmp
from bmp.artifact.formats import FORMATS
from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import FLOAT32, Storage, write_litert
from bmp.artifact.manifest import (
    Lineage,
    Manifest,
    Measurement,
    PromiseEntry,
    Variant,
    digest_file,
    digest_files,
    write_manifest,
)
from bmp.artifact.proof import Export, check_parity, compare, load_runner
from bmp.artifact.samples import Samples, write_samples
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.artifact.warmup import write_warmup
from bmp.data import Dataset, Split
from bmp.errors import ExportError
from bmp.objectives import OBJECTIVES
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    from datetime import datetime

    import tf_keras as keras

RECOMMENDED_FILE = "model.tflite"
RECIPE_FILE = "bmp/recipe.yaml"
_NUM_SAMPLES = 16


def export_variant(
    name: str,
    model: "keras.Model",
    signature: Signature,
    directory: Path,
    storage: Storage = FLOAT32,
    calibration: Arrays | None = None,
) -> Export:
    """Writes one variant into `variants/` of an artifact directory; see `write_litert` for the arguments.

    Raises:
        ExportError: LiteRT cannot hold the model; the message names the operation.
    """
    path = directory / "variants" / f"{name}.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_litert(model, signature, path, storage=storage, calibration=calibration)
    return Export(name, path, signature, model, is_quantized=storage.kind != "float32")


def write_uncompressed(
    model: "keras.Model", signature: Signature, directory: Path, held_out: Split
) -> tuple[Export, list[str]]:
    """Writes SavedModel and `.h5`, reads both back and compares them with the model.

    Returns:
        The SavedModel as a variant, for a model that LiteRT cannot hold, and a sentence for each format that cannot
        hold it.

    Raises:
        ProofError: A file does not agree with the model.
    """
    notes = []
    for name in ("saved_model", "h5"):
        path = directory / FORMATS[name].path
        try:
            FORMATS[name].write(model, signature, path)
        except ExportError as error:
            notes.append(error.message)
            continue
        difference = compare(FORMATS[name].load(path, signature), KerasRunner(model, signature), held_out)
        check_parity(f"The {name} export", difference)
    return Export("float32", directory / SAVED_MODEL_FILE, signature, model, is_quantized=False), notes


def seal(
    directory: Path,
    *,
    name: str,
    created: "datetime",
    data: Dataset,
    recommended: str,
    max_drop: float,
    verdicts: Mapping[str, str],
    places: Mapping[str, Path],
    measured: Mapping[str, Measurement],
    promise: PromiseEntry | None = None,
    parent: int | None = None,
    run: str | None = None,
) -> Manifest:
    """Writes samples, warm-up and manifest: after this the directory is complete, and nothing in it may change.

    Args:
        directory: Of the artifact; the recipe stands in it already.
        name: Of the model.
        created: When.
        data: What it was trained on; a few test examples become the samples.
        recommended: The variant in `model.tflite`.
        max_drop: The accuracy promise.
        verdicts: Of every variant, also of those that were refused.
        places: File of every variant that is kept.
        measured: Of every variant.
        promise: Whether the promise is proven.
        parent: The version it was made from, if it was.
        run: Which run made it.
    """
    few = data.test.take(slice(0, _NUM_SAMPLES))
    samples = few.load()
    outputs = load_runner(places[recommended], data.signature).run(samples.inputs)
    asked_with_tensors = all(field.kind == "tensor" for field in data.preprocessing.fields)
    raw = few.source.read(few.index) if asked_with_tensors and data.preprocessing.steps else {}
    write_samples(Samples(samples.inputs, outputs, samples.targets, raw), directory)
    if (directory / SAVED_MODEL_FILE).is_file():
        write_warmup(samples.inputs, name, directory)
    variants = tuple(
        Variant(
            name=variant,
            file=places[variant].relative_to(directory).as_posix() if variant in places else None,
            verdict=verdict,
            measured=measured[variant],
        )
        for variant, verdict in verdicts.items()
    )
    manifest = Manifest(
        schema_version=1,
        name=name,
        created=created,
        signature=data.signature.to_dict(),
        labels=data.labels,
        score=OBJECTIVES[data.signature.objective].score,
        preprocessing=data.preprocessing.to_dict(),
        recommended=recommended,
        max_drop=max_drop,
        promise=promise,
        variants=variants,
        lineage=_lineage(directory, data, parent, run),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)
    return manifest


def _lineage(directory: Path, data: Dataset, parent: int | None, run: str | None) -> Lineage:
    packages = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return Lineage(
        recipe_sha256=digest_file(directory / RECIPE_FILE).sha256,
        data_sha256=data.digest,
        parent_version=parent,
        code_version=bmp.__version__,
        packages={package: version(package) for package in packages},
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        run=run,
    )
