"""`bmp import`: a model that somebody has already, made into a proven, published version."""

import json
from pathlib import Path
from typing import Any

import click
import yaml

from bmp.cli.options import json_option, registry_option
from bmp.cli.tensorflow import check_can_train
from bmp.errors import ConfigError
from bmp.objectives import OBJECTIVES


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, metavar="MODEL", help="To publish it under.")
@click.option(
    "--samples", type=click.Path(path_type=Path), metavar="FILE", help="Examples: .npz of inputs and targets, or .npy."
)
@click.option("--objective", metavar="NAME", help="What its output means: multiclass, binary, regression …  [a guess]")
@click.option("--labels", metavar="A,B,C", help="Names of the classes, or a file with one a line.  [numbers]")
@click.option("--network", metavar="NAME", help="Of the shelf, for a state_dict of PyTorch: lenet5 or mlp.")
@click.option("--shape", metavar="H,W", help="Of one example of that network, such as 28,28.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An argument of that network.")
@click.option("--trust", is_flag=True, help="It is your own file: load it whatever it does. It stays in the sandbox.")
@registry_option
@json_option
def import_command(
    path: Path,
    name: str,
    samples: Path | None,
    objective: str | None,
    labels: str | None,
    network: str | None,
    shape: str | None,
    settings: tuple[str, ...],
    trust: bool,
    registry: str,
    as_json: bool,
) -> None:
    """Publish a model that you have already.

    PATH is an .h5 or .keras file of Keras 2 or 3, the directory of a SavedModel, a .tflite file, a .skops file of
    scikit-learn, or a .safetensors file of PyTorch's weights for a network of the shelf.

    Nothing in it can run code. It is read without network and without access to other files, run by its own engine,
    written as SavedModel, .h5 and LiteRT as far as these can hold it, and every one of them is compared with it on
    examples: yours, or random ones.
    """
    check_can_train()
    from rich.console import Console

    from bmp.imports.flow import import_model
    from bmp.imports.original import Options
    from bmp.registry import Registry

    if objective is not None:
        OBJECTIVES[objective]
    options = Options(network=network, args=_read_settings(settings), shape=_read_shape(shape), objective=objective)
    version = import_model(
        path,
        name,
        samples=samples,
        trust=trust,
        labels=_read_labels(labels),
        options=options,
        registry=Registry(registry),
        console=Console(stderr=as_json),
    )
    if as_json:
        imported = version.read_manifest().lineage.imported
        assert imported is not None
        found = {"name": version.name, "version": version.number, "path": str(version.path)}
        click.echo(json.dumps(found | imported.model_dump(), indent=2))


def _read_labels(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        is_file = Path(text).is_file()
        lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The labels in {text[:80]} cannot be read: {error}.") from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(set(labels)) != len(labels) or not labels:
        raise ConfigError(
            f"The labels are {', '.join(labels) or 'none'}; expected a name for each class, each of them once."
        )
    return labels


def _read_shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = text.replace("x", ",").split(",")
    if not all(size.isascii() and size.isdigit() and 0 < int(size) < 1 << 20 for size in sizes):
        raise ConfigError(
            f"--shape is '{text}'; expected whole numbers such as 28,28.", expected="28,28", received=text
        )
    return tuple(map(int, sizes))


def _read_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set is '{setting}'; expected KEY=VALUE, such as pooling=max.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of --set {setting} is not valid YAML.") from error
    return found
