"""An example of a request that a model answers, for whoever has never asked it."""

import json
import math
from collections.abc import Sequence
from typing import Any

from bmp.artifact.manifest import Manifest
from bmp.signature import TensorSpec
from bmp.transforms import Field

_BODIES = {"image": ("image/png", "@example.png"), "audio": ("audio/wav", "@example.wav"), "text": ("text/plain", "…")}
_MAX_NUMBERS = 64
"""Of a tensor that the example of a request spells out."""


def build_request(name: str, manifest: Manifest) -> tuple[str, str]:
    """Returns the content type and the body of a request that the model answers; `…` where something is left out."""
    transforms = manifest.parsed_preprocessing()
    specs = manifest.parsed_signature().inputs
    if transforms is not None and transforms.steps:
        fields = transforms.fields
        if len(fields) == 1 and fields[0].kind in _BODIES:
            return _BODIES[fields[0].kind]
        if any(field.kind != "tensor" for field in fields):
            row = {field.name: _make_value(field) for field in fields}
            return "application/json", _dump({"model": name, "instances": [row]})
        specs = tuple(TensorSpec(field.name, field.dtype, field.shape) for field in fields)
    tensors = {spec.name: [_make_tensor(spec.shape)] for spec in specs}
    examples = next(iter(tensors.values())) if len(tensors) == 1 else tensors
    return "application/json", _dump({"model": name, "x_test": examples})


def _make_value(field: Field) -> Any:
    if field.kind == "tensor":
        return _make_tensor(field.shape)
    if field.kind in ("image", "audio"):
        return {"b64": "…"}
    return 0 if field.kind == "number" else "…"


def _make_tensor(shape: Sequence[int | None], is_short: bool | None = None) -> Any:
    """Returns zeros as nested lists; of a long dimension of a large tensor, the first and an ellipsis."""
    sizes = [size or 1 for size in shape]
    if is_short is None:
        is_short = math.prod(sizes) <= _MAX_NUMBERS
    if not shape:
        return 0
    inner = _make_tensor(shape[1:], is_short)
    return [inner] * sizes[0] if is_short or sizes[0] <= 4 else [inner, ...]


def _dump(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False, default=lambda _: "\0").replace('"\\u0000"', "…")
