"""Every error bmp raises on purpose, one tree.

    BmpError
    ├── ConfigError            a recipe, an override or a command line is wrong    (ValueError)
    │   └── UnknownNameError   a name that no catalog entry has                    (KeyError)
    ├── DataError              examples that cannot be used                        (ValueError)
    ├── SignatureError         arrays that do not fit a model's signature          (ValueError)
    ├── RequestError           a request that cannot be understood                 (ValueError)
    ├── TrainingError          training cannot go on                               (RuntimeError)
    │   └── CheckpointError    the state of a run cannot be written or read        (OSError)
    ├── StoppedError           a run was asked to stop, and can go on later        (RuntimeError)
    ├── ExportError            a model cannot be written in a format               (RuntimeError)
    ├── ProofError             an exported file does not do what the model does    (RuntimeError)
    ├── ArtifactError          a model directory is incomplete, altered or foreign (ValueError)
    │   └── UnsafeError        a model file that loading could make do harm
    ├── RegistryError          the registry cannot do what was asked               (RuntimeError)
    │   └── NotFoundError      no such model, version or alias                     (LookupError)
    ├── NotReadyError          the model is still loading                          (RuntimeError)
    ├── OverloadError          there is more to do than can be done in time        (RuntimeError)
    ├── DeadlineError          what was asked would come too late                  (TimeoutError)
    └── InferenceError         a model gave no usable answer                       (RuntimeError)

A message says what happened, what was expected and how to fix it. `expected` and `received` carry the
evidence apart from the sentence, so that a server can hand them to a program.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class BmpError(Exception):
    """Root of every error bmp raises on purpose.

    Args:
        message: What happened, what was expected, how to fix it; whole sentences.
        expected: What would have been right, in short.
        received: What came instead, in short.
    """

    code = "error"
    """Stable name of the kind of error, for programs."""

    def __init__(self, message: str, *, expected: str | None = None, received: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        return self.message


class ConfigError(BmpError, ValueError):
    """A recipe, an override or a command line is wrong; nothing has been written."""

    code = "invalid_config"


class UnknownNameError(ConfigError, KeyError):
    """A name that no entry has."""

    code = "unknown_name"


class DataError(BmpError, ValueError):
    """Examples that cannot be used."""

    code = "invalid_data"


class SignatureError(BmpError, ValueError):
    """Arrays that do not fit the signature of a model."""

    code = "invalid_input"


class RequestError(BmpError, ValueError):
    """A request that cannot be understood."""

    code = "invalid_request"


class TrainingError(BmpError, RuntimeError):
    """Training cannot go on."""

    code = "training_failed"


class CheckpointError(TrainingError, OSError):
    """The state of a run cannot be written or read; earlier checkpoints are untouched."""

    code = "checkpoint_failed"


class StoppedError(BmpError, RuntimeError):
    """A run was asked to stop, by SIGTERM or Ctrl-C; its state is on the disk.

    Args:
        message: What happened and how to go on.
        exit_code: What the process should end with: 143 after SIGTERM, 130 after Ctrl-C.
    """

    code = "stopped"

    def __init__(
        self, message: str, *, expected: str | None = None, received: str | None = None, exit_code: int = 143
    ) -> None:
        super().__init__(message, expected=expected, received=received)
        self.exit_code = exit_code


class ExportError(BmpError, RuntimeError):
    """A model cannot be written in a format."""

    code = "export_failed"


class ProofError(BmpError, RuntimeError):
    """An exported file does not do what the model does."""

    code = "proof_failed"


class ArtifactError(BmpError, ValueError):
    """A model directory is incomplete, altered or foreign."""

    code = "invalid_artifact"


class UnsafeError(ArtifactError):
    """A model file that is refused because of what loading it could do."""

    code = "unsafe_model"


class RegistryError(BmpError, RuntimeError):
    """The registry cannot do what was asked."""

    code = "registry_error"


class NotFoundError(RegistryError, LookupError):
    """There is no such model, version or alias."""

    code = "not_found"


class NotReadyError(BmpError, RuntimeError):
    """The model is still loading."""

    code = "not_ready"


class OverloadError(BmpError, RuntimeError):
    """There is more to do than can be done in time; nothing of it was begun."""

    code = "overloaded"


class DeadlineError(BmpError, TimeoutError):
    """What was asked would come too late; it was dropped before it ran."""

    code = "deadline_exceeded"


class InferenceError(BmpError, RuntimeError):
    """A model gave no usable answer."""

    code = "inference_failed"


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
