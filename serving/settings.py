"""Everything an operator may set: BMP_* variables, read once when a process starts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bmp.errors import ConfigError, suggest

PREFIX = "BMP_"


def _split(value: object) -> object:
    return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


class Settings(BaseModel):
    """What a server runs with. Each field is the variable of the same name: `port` is `BMP_PORT`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    registry: Path = Path("registry")
    """Directory of published models."""
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Names of the models to serve, separated by commas; empty serves all."""
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
        """Reads the BMP_* variables.

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
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = f"{PREFIX}{str(problem['loc'][0]).upper()}"
            raise ConfigError(f"{name} is '{problem['input']}': {problem['msg']}.") from error

    def to_environ(self) -> dict[str, str]:
        """Returns the variables that `from_environ` reads the same settings from."""
        values = {**self.model_dump(mode="json"), "models": ",".join(self.models)}
        return {f"{PREFIX}{field.upper()}": str(value) for field, value in values.items()}
