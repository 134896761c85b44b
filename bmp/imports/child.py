"""What runs in the child: `python -m bmp.imports.child MODULE:FUNCTION`; `sandbox.run_confined` starts it.

The request comes as JSON on standard input, the answer goes as JSON to standard output: `{"done": …}`, or
`{"error": {"code", "message", "expected", "received"}}`. Nothing but the standard library is imported before the walls
stand.
"""

import importlib
import json
import os
import sys
from typing import Any

from bmp.errors import ArtifactError, BmpError
from bmp.imports.confine import Confinement, Walls, confine


def main() -> None:
    """Confines this process, then does one task."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        limits, walls = Confinement(**request["limits"]), Walls(**request["walls"])
        confine(limits, walls, request["readable"], request["writable"])
        json.dump(_answer(sys.argv[1], request["request"]), answers)


def _answer(task: str, request: dict[str, Any]) -> dict[str, Any]:
    module, _, function = task.partition(":")
    try:
        return {"done": getattr(importlib.import_module(module), function)(request)}
    except BmpError as error:
        return {"error": _to_dict(error)}
    except MemoryError:
        return {"error": _to_dict(ArtifactError("It needs more memory than it was given."))}
    except Exception as error:  # whatever a reader makes of a file that no reader of its kind has written
        import traceback

        traceback.print_exc()
        text = " ".join(str(error).split())[:400]
        return {"error": _to_dict(ArtifactError(f"It cannot be read: {type(error).__name__}: {text}"))}


def _to_dict(error: BmpError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "expected": error.expected,
        "received": error.received,
    }


if __name__ == "__main__":
    main()
