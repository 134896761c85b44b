"""Everything an operator may set: BMP_* variables, read once when a process starts."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

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
    variants: Literal["asked", "all"] = "asked"
    """Other variants than the recommended ones, for requests that say `quality`: loaded when one is `asked` for, which
    is answered with 503 meanwhile, or `all` at the start."""
    memory_mb: int | None = Field(None, ge=1)
    """How many MiB of models a process holds. What was used least recently is unloaded beyond that, and loaded again
    when a request asks for it, which is answered with 503 and Retry-After meanwhile. By default there is no limit."""
    model_control: Literal["registry", "explicit"] = "registry"
    """Who decides what is loaded: the `registry` alone; or, `explicit`ly, clients of the Open Inference Protocol as
    well, by load and unload. Then only what BMP_MODELS names is loaded at the start."""
    control_file: Path | None = None
    """Where the processes of a server agree on what clients have had loaded. Our gunicorn settings make one; under
    another server of several processes name one that is empty."""
    trust: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Names of models, separated by commas, whose SavedModels may do whatever TensorFlow can. Of any other only
    operations that compute are let in, whatever its manifest says: a graph is a program."""
    reload: bool = True
    """Whether what is published, and where aliases go, counts at once; with 0 it does from the next start on."""
    host: str = "127.0.0.1"
    """Address to listen on. There is no authentication: keep it private, or put a proxy in front."""
    port: int = Field(5000, ge=0, le=65535)
    grpc_port: int | None = Field(None, ge=0, le=65535)
    """Port for gRPC: TensorFlow Serving's services and the Open Inference Protocol. By default there is none. Our
    gunicorn settings open it; beside another server run `python -m serving.grpc`."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes; each loads every model."""
    threads: int = Field(1, ge=1)
    """Requests a process works on at the same time; of these a model runs as many as the process has cores for. One is
    fastest for models that answer within milliseconds."""
    batching: Literal["auto", "off"] = "auto"
    """Whether requests that wait for a model run together: `auto` where that was measured to pay when it was loaded."""
    slo_p99_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    """What 99 of 100 answers of a model may take; bounds how many examples run together."""
    queue: int | None = Field(None, ge=1)
    """How many examples may wait for a model in a process; what comes beyond that is answered with 503 at once. By
    default what the model runs in a quarter of a second, from 16 to 16,384."""
    max_body_bytes: int = Field(16 * 2**20, ge=1)
    """A longer request body is answered with 413."""
    timeout_s: int = Field(30, ge=1)
    """A process that hangs for longer is replaced."""
    graceful_timeout_s: int = Field(30, ge=1)
    """How long requests in flight may take after the server was asked to stop."""
    keep_alive_s: int = Field(15, ge=0)
    """How long an idle connection is kept."""
    access_log: str | None = Field(None, min_length=1)
    """A file that gets a line for each request over HTTP, or `-` for the standard output. By default there is none."""
    log_level: str = Field("info", pattern="^(debug|info|warning|error|critical)$")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads the BMP_* variables, and looks whether the files that they name can be used.

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
        settings.check_access_log()
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

    def check_access_log(self) -> None:
        """Makes the file of the access log, unless it is there.

        Raises:
            ConfigError: It cannot be written to.
        """
        if self.access_log is None or self.access_log == "-":
            return
        try:
            Path(self.access_log).open("ab").close()
        except OSError as error:
            raise ConfigError(
                f"{PREFIX}ACCESS_LOG: '{self.access_log}' cannot be written to: {error.strerror or error}. Name a file "
                "in a directory that is there, or - for the standard output."
            ) from error

    def to_environ(self) -> dict[str, str]:
        """Returns the variables that `from_environ` reads the same settings from."""
        lists = {"models": ",".join(self.models), "trust": ",".join(self.trust)}
        values = {**self.model_dump(mode="json", exclude_none=True), **lists}
        return {f"{PREFIX}{field.upper()}": str(value) for field, value in values.items()}
