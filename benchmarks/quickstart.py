"""`python train.py` as a newcomer runs it: how long it takes, and how small its recommended variant is.

The size is compared with the plain `.h5` that `model.save(…, include_optimizer=False)` writes of the same network.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from rich.console import Console
from rich.table import Table

import bmp  # selects Keras 2
from bmp.registry import Registry

TRAIN = Path(bmp.__file__).parent.parent / "train.py"


def write_plain_h5(packed: Path, plain: Path) -> None:
    """Saves the published network the way people do."""
    import tf_keras as keras

    model = keras.models.load_model(packed, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.save(plain, include_optimizer=False)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        directory = Path(name)
        start = time.perf_counter()
        subprocess.run([sys.executable, str(TRAIN)], cwd=directory, check=True)
        duration_s = time.perf_counter() - start
        version = Registry(directory / "registry").resolve("digits")
        manifest = version.read_manifest()
        write_plain_h5(version.path / "model.h5", directory / "plain.h5")
        plain_bytes = (directory / "plain.h5").stat().st_size
    base, recommended = manifest.variant("float32").measured, manifest.variant(manifest.recommended).measured
    figures = {
        "duration_s": duration_s,
        "float32_test_accuracy": base.test_score,
        "recommended": manifest.recommended,
        "plain_h5_bytes": plain_bytes,
        "recommended_gzip_bytes": recommended.gzip_bytes,
        "times_smaller": plain_bytes / recommended.gzip_bytes,
        "validation_accuracy_drop": base.validation_score - recommended.validation_score,
        "test_accuracy_drop": base.test_score - recommended.test_score,
    }
    table = Table("python train.py", "", "aim", title="from data to a published version")
    table.add_row("seconds, TensorFlow's start included", f"{duration_s:.0f}", "about 90")
    table.add_row("test accuracy of float32", f"{base.test_score:.4f}", "≥ 0.97")
    table.add_row("plain .h5, bytes", f"{plain_bytes:,}", "")
    table.add_row(f"{manifest.recommended}, gzipped, bytes", f"{recommended.gzip_bytes:,}", "")
    table.add_row("times smaller", f"{figures['times_smaller']:.1f}", "≥ 8")
    table.add_row("accuracy drop, validation", f"{figures['validation_accuracy_drop']:.4f}", "≤ 0.01")
    table.add_row("accuracy drop, test", f"{figures['test_accuracy_drop']:.4f}", "≤ 0.01")
    Console().print(table)
    output = Path("results/quickstart.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
