"""Settings: read from the environment, strictly."""

from pathlib import Path

import pytest

from bmp.errors import ConfigError
from serving.settings import Settings


def test_defaults_are_safe() -> None:
    settings = Settings.from_environ({})
    assert settings.host == "127.0.0.1" and settings.workers >= 1 and settings.models == ()


def test_environment_is_read_and_other_variables_are_left_alone() -> None:
    environ = {"BMP_PORT": "8080", "BMP_MODELS": "a,b", "BMP_REGISTRY": "/models", "PORT": "1", "PATH": "/bin"}
    settings = Settings.from_environ(environ)
    assert (settings.port, settings.models, settings.registry) == (8080, ("a", "b"), Path("/models"))


@pytest.mark.parametrize("settings", [Settings(), Settings(models=("a",), port=1, threads=4, registry=Path("x"))])
def test_round_trip(settings: Settings) -> None:
    assert Settings.from_environ(settings.to_environ()) == settings


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"BMP_PROT": "1"}, "Did you mean 'BMP_PORT'?"),
        ({"BMP_PORT": "web"}, "BMP_PORT is 'web'"),
        ({"BMP_PORT": "70000"}, "BMP_PORT is '70000'"),
        ({"BMP_WORKERS": "0"}, "BMP_WORKERS is '0'"),
        ({"BMP_MAX_BODY_BYTES": "-1"}, "BMP_MAX_BODY_BYTES is '-1'"),
        ({"BMP_LOG_LEVEL": "loud"}, "BMP_LOG_LEVEL is 'loud'"),
    ],
)
def test_mistakes_are_named(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.from_environ(environ)
    assert says in raised.value.message
