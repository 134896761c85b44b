"""`bmp export`: a published model as a file of some format."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmp.cli.options import REFERENCE, open_version, registry_option
from bmp.cli.tensorflow import hold_back_stderr
from bmp.errors import BmpError

if TYPE_CHECKING:
    from bmp.artifact.export import Exported


@click.command("export")
@click.argument("model", metavar=REFERENCE)
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--format", "form", required=True, metavar="FORMAT", help="saved_model, h5, keras, litert or onnx.")
@click.option("--variant", metavar="NAME", help="With litert: which variant.  [the recommended one]")
@registry_option
@click.option("--verbose", is_flag=True, help="Show TensorFlow's own messages as well.")
def export_command(model: str, target: Path, form: str, variant: str | None, registry: str, verbose: bool) -> None:
    """Write a published model to TARGET, in the format other tools read.

    MODEL is a name, name@alias or name/version. TARGET is a file, or a directory for saved_model; nothing may be there
    yet. What the version holds in the format is copied, its digests checked. Anything else is written from its
    model.h5, read back and compared with it.
    """
    from bmp.artifact.export import export_format

    _, version = open_version(registry, model)
    try:
        with nullcontext() if verbose else hold_back_stderr():
            exported = export_format(version.path, version.read_manifest(), form, target, variant=variant)
    except ModuleNotFoundError as error:
        raise BmpError(
            f"The version holds no {form}, and this installation cannot write it: {error.name} is missing. "
            "Run 'pip install -r requirements.txt'."
        ) from error
    click.echo(f"{version.name}/{version.number} as {form}: {exported.path}, {_describe(exported)}")


def _describe(exported: "Exported") -> str:
    if exported.difference is None:
        return f"{exported.size_bytes:,} bytes, as published"
    return (
        f"{exported.size_bytes:,} bytes; differs from model.h5 by {exported.difference:.3g} at the most, on "
        f"{exported.examples} held-out examples"
    )
