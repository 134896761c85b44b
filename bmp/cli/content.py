"""What the files of an artifact from elsewhere could do once it is published, looked for in each that is loaded."""

from collections.abc import Callable
from pathlib import Path

import yaml

from bmp.errors import ArtifactError, ConfigError, UnsafeError

_MAX_RECIPE_BYTES = 2**20
_OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")  # some loaders prefer them to saved_model.pb


def check_content(directory: Path) -> None:
    """Looks into every file of an artifact that is loaded later: models, graphs, and recipes, which may name code.

    Raises:
        UnsafeError: One could do harm.
        ArtifactError: One is damaged.
        ConfigError: What it takes to look is not installed.
    """
    checks = _find_checks()
    try:
        for path in sorted(directory.rglob("*")):
            check = checks.get(path.suffix.lower())
            if check is not None and not path.is_dir():
                check(path)
        _check_graph(directory)
    except ImportError as error:
        raise ConfigError(
            f"The model files cannot be looked into here, because {error.name} is not installed. Run 'pip install -r "
            "requirements.txt', or, if the file is your own, give --trust."
        ) from error


def _find_checks() -> dict[str, Callable[[Path], None]]:
    from bmp.artifact.guard import check_h5, check_keras, check_litert

    models = {".h5": check_h5, ".keras": check_keras, ".tflite": check_litert}
    return models | {".yaml": _check_recipe, ".yml": _check_recipe, ".py": _refuse_code}


def _check_graph(directory: Path) -> None:
    from bmp.artifact.guard import check_saved_model

    for name in _OTHER_GRAPHS:
        if (directory / name).exists():
            raise UnsafeError(f"{name} is refused: a version holds its graph in saved_model.pb alone.")
    if (directory / "saved_model.pb").exists():
        check_saved_model(directory)


def _refuse_code(path: Path) -> None:
    raise UnsafeError(
        f"{path.name} is refused: it is a program, which a recipe could name. If it is your own, give --trust."
    )


def _check_recipe(path: Path) -> None:
    """Refuses a recipe that names a function of a Python file, which runs when the version is worked on again.

    Read as events, one after the other, so that no alias in it is ever multiplied out.
    """
    size = path.stat().st_size
    if size > _MAX_RECIPE_BYTES:
        raise UnsafeError(f"{path.name} has {size:,} bytes; recipes of up to {_MAX_RECIPE_BYTES:,} are read.")
    try:
        for event in yaml.parse(path.read_bytes(), Loader=yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent) and ".py:" in event.value:
                raise UnsafeError(
                    f"{path.name} names '{event.value[:200]}', a function of a Python file, which would run when the "
                    "version is compressed or trained again. If the file is your own, give --trust."
                )
    except (yaml.YAMLError, UnicodeError) as error:
        raise ArtifactError(f"{path.name} is no YAML: {' '.join(str(error).split())[:200]}.") from error
