"""Everything an operator may set: BMP_* variables, read once when a process starts."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bmp.errors import ConfigError, suggest
from bmp.registry.keys import PublicKeys, read_public_keys

PREFIX = "BMP_"


def _split(value: object) -> object:
    return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


def _check_given(value: object) -> object:
    if value == "":  # as a path it would be the current directory
        raise ValueError("it is empty; expected a public key or a directory of them")
    return value


def _check_policy(text: str) -> str:
    if text not in ("served", "all") and not re.fullmatch("latest:[1-9][0-9]{0,8}", text):
        raise ValueError("it is no policy; expected served, all, or latest:N such as latest:2")
    return text


class Settings(BaseModel):
    """What a server runs with. Each field is the variable of the same name: `port` is `BMP_PORT`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    registry: Path = Path("registry")
    """Directory of published models."""
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Names of the models to serve, separated by commas; empty serves all."""
    require_signature: Annotated[Path | None, BeforeValidator(_check_given)] = None
    """A public key, or a directory of them (`*.pub`): only versions that one of them signed are served, and of these
    only what is as it was signed. `bmp models keygen` makes a pair, `bmp models sign` signs."""
    versions: Annotated[str, AfterValidator(_check_policy)] = "served"
    """Which versions of a model are served: `served` is the default (`production`, else the newest) and each that an
    alias names; `latest:N` the newest N as well; `all`. Each takes its memory in each process."""
    reload: bool = True
    """Whether what is published, and where aliases go, counts at once; with 0 it does from the next start on."""
    host: str = "127.0.0.1"
    """Address to listen on. There is no authentication: keep it private, or put a proxy in front."""
    port: int = Field(5000, ge=0, le=65535)
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes; each loads every model."""
    threads: int = Field(1, ge=1)
    """Requests a process runs at the same time. One is fastest for models that answer within milliseconds."""
    max_body_bytes: int = Field(16 * 2**20, ge=1)
    """A longer request body is answered with 413."""
    timeout_s: int = Field(30, ge=1)
    """A process that hangs for longer is replaced."""
    graceful_timeout_s: int = Field(30, ge=1)
    """How long requests in flight may take after the server was asked to stop."""
    keep_alive_s: int = Field(15, ge=0)
    """How long an idle connection is kept."""
    log_level: str = Field("info", pattern="^(debug|info|warning|error|critical)$")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads the BMP_* variables, and looks whether the keys that they name are there.

        Raises:
            ConfigError: A variable is unknown or has a value that cannot be used.
        """
        values = {name.removeprefix(PREFIX).lower(): text for name, text in environ.items() if name.startswith(PREFIX)}
        known = {f"{PREFIX}{field.upper()}" for field in cls.model_fields}
        for field in values:
            name = f"{PREFIX}{field.upper()}"
            if name not in known:
                raise ConfigError(
                    f"The environment variable {name} is no setting of bmp. Settings: {', '.join(sorted(known))}."
                    f"{suggest(name, known)}"
                )
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = f"{PREFIX}{str(problem['loc'][0]).upper()}"
            reason = problem["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{name} is '{problem['input']}': {reason}.") from error
        settings.read_keys()
        return settings

    def read_keys(self) -> PublicKeys | None:
        """Returns the keys that versions must be signed by; None where unsigned ones are served as well.

        Raises:
            ConfigError: There is no key where BMP_REQUIRE_SIGNATURE says.
        """
        if self.require_signature is None:
            return None
        try:
            return read_public_keys(self.require_signature)
        except ConfigError as error:
            raise ConfigError(f"{PREFIX}REQUIRE_SIGNATURE: {error}") from error

    def to_environ(self) -> dict[str, str]:
        """Returns the variables that `from_environ` reads the same settings from."""
        values = {**self.model_dump(mode="json", exclude_none=True), "models": ",".join(self.models)}
        return {f"{PREFIX}{field.upper()}": str(value) for field, value in values.items()}
