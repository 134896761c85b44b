import inspect
import pickle

import pytest

from bmp import errors
from bmp.errors import BmpError, suggest

BUILTINS = {
    "ConfigError": ValueError,
    "UnknownNameError": KeyError,
    "DataError": ValueError,
    "SignatureError": ValueError,
    "RequestError": ValueError,
    "TrainingError": RuntimeError,
    "CheckpointError": OSError,
    "StoppedError": RuntimeError,
    "ExportError": RuntimeError,
    "ProofError": RuntimeError,
    "ArtifactError": ValueError,
    "UnsafeError": ValueError,
    "RegistryError": RuntimeError,
    "NotFoundError": LookupError,
    "NotReadyError": RuntimeError,
    "OverloadError": RuntimeError,
    "DeadlineError": TimeoutError,
    "InferenceError": RuntimeError,
}
ERRORS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, BmpError) and kind is not BmpError
}


def test_every_error_is_in_the_table():
    assert set(BUILTINS) == set(ERRORS)


@pytest.mark.parametrize("name", ERRORS)
def test_is_a_bmp_error_and_a_builtin(name):
    assert issubclass(ERRORS[name], BmpError)
    assert issubclass(ERRORS[name], BUILTINS[name])


def test_codes_tell_errors_apart():
    assert len({kind.code for kind in [BmpError, *ERRORS.values()]}) == len(ERRORS) + 1


@pytest.mark.parametrize("kind", ERRORS.values())
def test_reads_as_its_message_and_keeps_the_evidence(kind):
    error = pickle.loads(pickle.dumps(kind("Too long.", expected="3", received="4")))
    assert (str(error), error.message, error.expected, error.received) == ("Too long.", "Too long.", "3", "4")


@pytest.mark.parametrize(
    ("name", "known", "guess"),
    [
        ("epoch", ["epochs", "seed"], " Did you mean 'epochs'?"),
        ("epochs", {"epoch": 1, "epochs_": 2}, " Did you mean 'epochs_'?"),
        ("zzz", ["epochs", "seed"], ""),
        ("", ["epochs"], ""),
        ("epoch", [], ""),
    ],
)
def test_suggests_only_what_is_close(name, known, guess):
    assert suggest(name, known) == guess
