"""Settings: read from the environment, strictly."""

from pathlib import Path

import pytest

from bmp.errors import ConfigError
from bmp.registry.keys import write_keys
from serving.settings import Settings


def test_defaults_are_safe() -> None:
    settings = Settings.from_environ({})
    assert settings.host == "127.0.0.1" and settings.workers >= 1 and settings.models == ()


def test_environment_is_read_and_other_variables_are_left_alone() -> None:
    assert Settings.from_environ({"BMP_RELOAD": "0", "BMP_VERSIONS": "latest:12"}).reload is False
    environ = {"BMP_PORT": "8080", "BMP_MODELS": "a,b", "BMP_REGISTRY": "/models", "PORT": "1", "PATH": "/bin"}
    settings = Settings.from_environ(environ)
    assert (settings.port, settings.models, settings.registry) == (8080, ("a", "b"), Path("/models"))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(models=("a",), port=1, threads=4, registry=Path("x"), reload=False, versions="all"),
        Settings(trust=("a", "b"), memory_mb=5, variants="all", model_control="explicit", control_file=Path("x")),
        Settings(access_log="-", slo_p99_ms=2.5),
    ],
)
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
        ({"BMP_BATCHING": "on"}, "BMP_BATCHING is 'on'"),
        ({"BMP_SLO_P99_MS": "0"}, "BMP_SLO_P99_MS is '0'"),
        ({"BMP_SLO_P99_MS": "inf"}, "BMP_SLO_P99_MS is 'inf'"),
        ({"BMP_QUEUE": "0"}, "BMP_QUEUE is '0'"),
        ({"BMP_MEMORY_MB": "0"}, "BMP_MEMORY_MB is '0'"),
        ({"BMP_MODEL_CONTROL": "poll"}, "BMP_MODEL_CONTROL is 'poll'"),
        ({"BMP_VARIANTS": "best"}, "BMP_VARIANTS is 'best'"),
        ({"BMP_ACCESS_LOG": ""}, "BMP_ACCESS_LOG is ''"),
        ({"BMP_ACCESS_LOG": "/nowhere/x.log"}, "BMP_ACCESS_LOG: '/nowhere/x.log' cannot be written to: No such file"),
        ({"BMP_ACCESS_LOG": "/"}, "BMP_ACCESS_LOG: '/' cannot be written to: Is a directory. Name a file in"),
        ({"BMP_RELOAD": "perhaps"}, "BMP_RELOAD is 'perhaps'"),
        ({"BMP_VERSIONS": "latest"}, "BMP_VERSIONS is 'latest': it is no policy; expected served, all, or latest:N"),
        ({"BMP_VERSIONS": "latest:0"}, "BMP_VERSIONS is 'latest:0'"),
    ],
)
def test_mistakes_are_named(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.from_environ(environ)
    assert says in raised.value.message


def test_keys_are_read_when_the_process_starts(tmp_path: Path) -> None:
    assert Settings.from_environ({}).read_keys() is None
    name = write_keys(tmp_path / "k")
    settings = Settings.from_environ({"BMP_REQUIRE_SIGNATURE": str(tmp_path / "k.pub")})
    assert list(settings.read_keys() or {}) == [name]
    assert Settings.from_environ(settings.to_environ()) == settings


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("", "BMP_REQUIRE_SIGNATURE is '': it is empty; expected a public key or a directory of them"),
        ("missing", "BMP_REQUIRE_SIGNATURE: The key file .*missing cannot be read"),
        ("empty", "BMP_REQUIRE_SIGNATURE: The directory .*empty holds no public key"),
        ("k", "BMP_REQUIRE_SIGNATURE: .*k holds a private key"),
    ],
)
def test_a_server_that_cannot_check_signatures_does_not_start(tmp_path: Path, place: str, says: str) -> None:
    write_keys(tmp_path / "k")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=says):
        Settings.from_environ({"BMP_REQUIRE_SIGNATURE": str(tmp_path / place) if place else ""})
