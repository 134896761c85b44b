"""TensorFlow on the command line: whether it is installed, and what of its chatter a person sees."""

import faulthandler
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bmp.errors import BmpError


def check_can_train() -> None:
    """Looks whether this installation has what training needs.

    Raises:
        BmpError: It can only serve.
    """
    missing = [name for name in ("tensorflow", "tf_keras", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise BmpError(
            f"This installation can serve but not train: {', '.join(missing)} is missing. "
            "Run 'pip install -r requirements.txt'."
        )


@contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Keeps TensorFlow's start-up chatter from burying our own lines; whatever it said is shown on a failure.

    It comes from C++, written to the file descriptor, partly before any log level can be set.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "wb") as stderr:
        faulthandler.enable(stderr)  # a crash in native code is told where a person sees it
        os.dup2(held.fileno(), 2)
        try:
            yield
        except (BmpError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            stderr.write(held.read())
            stderr.flush()
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)
            faulthandler.disable()
