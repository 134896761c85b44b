"""Good requests of every door, which the campaign spoils, and of which it asks some as they are."""

import base64
import io
import json
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import PIL.Image

HEADER_LENGTH = "Inference-Header-Content-Length"
JSON = "application/json"


@dataclass(frozen=True)
class Question:
    """A request of HTTP.

    Args:
        target: Path and query.
        body: Of it.
        content_type: Of the body.
        headers: Beside that.
        method: Of the request.
    """

    target: str
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    @property
    def is_prediction(self) -> bool:
        """Whether it asks a model, so that the answer is the same each time."""
        return self.method == "POST" and "repository" not in self.target

    def write(self) -> bytes:
        """Returns it as it travels."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: soak"]
        if self.body or self.method == "POST":
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + self.body

    def parse(self) -> object:
        """Returns the body as JSON; None where it is none."""
        if self.content_type != JSON or HEADER_LENGTH in self.headers:
            return None
        return json.loads(self.body) if self.body else None


def list_questions() -> list[Question]:
    """Returns all of them."""
    return [*_ask_predict(), *_ask_files(), *_ask_tfserving(), *_ask_v2(), *_ask_v2_binary(), *_ask_operators()]


def _put(target: str, content: object) -> Question:
    return Question(target, json.dumps(content).encode())


_FLAGS = [[0.5, -1, 2.25], [1, 2, 3]]
_PAIRS = {"a": [[1, 2, 3]], "b": [[4, 5]]}
_PASSENGER = {"age": 31, "fare": 7.25, "sex": "a"}
_REVIEW = "a good film, not bad. Grüße 何"


def _ask_predict() -> list[Question]:
    return [
        _put("/predict", {"model": "flags", "x_test": _FLAGS}),
        _put("/predict", {"model": "flags", "instances": _FLAGS, "version": 2, "top_k": 1}),
        _put("/predict?model=flags&alias=canary&top_k=2", {"x_test": {"x": _FLAGS}}),
        _put("/predict?quality=fast", {"model": "prices", "x_test": [[[1, 2], [3, 4]]] * 20}),
        _put("/predict", {"model": "pairs", "x_test": _PAIRS}),
        _put("/predict", {"model": "passengers", "x_test": [_PASSENGER, {**_PASSENGER, "age": None}]}),
        _put("/predict", {"model": "reviews", "x_test": [{"review": _REVIEW}], "top_k": 3}),
        _put("/predict", {"model": "tumours", "x_test": [[50, 60, 40, 30, 20]]}),
        _put("/predict", {"model": "photos", "x_test": [{"photo": {"b64": _b64(_make_picture("PNG"))}}]}),
        _put("/predict", {"model": "letters", "x_test": [{"text": "to be"}], "top_k": 5}),
    ]


def _ask_files() -> list[Question]:
    npy = io.BytesIO()
    np.save(npy, np.ones((3, 2, 2), np.float32))
    return [
        Question("/predict?model=photos", _make_picture("PNG"), "image/png"),
        Question("/predict?model=photos&top_k=2", _make_picture("JPEG"), "image/jpeg"),
        Question("/predict?model=clips", _make_sound(), "audio/wav"),
        Question("/predict?model=reviews", _REVIEW.encode(), "text/plain; charset=utf-8"),
        Question("/predict?model=letters&top_k=1", b"or not", "text/plain"),
        Question("/predict?model=prices", npy.getvalue(), "application/x-npy"),
    ]


def _ask_tfserving() -> list[Question]:
    pages = ("/v1/models", "/v1/models/flags", "/v1/models/flags/versions/2", "/v1/models/pairs/metadata")
    return [
        _put("/v1/models/flags:predict", {"instances": _FLAGS}),
        _put("/v1/models/flags/versions/2:predict", {"inputs": {"x": _FLAGS}, "signature_name": "serving_default"}),
        _put("/v1/models/flags/labels/canary:predict", {"instances": [{"x": row} for row in _FLAGS]}),
        _put("/v1/models/pairs:predict", {"inputs": _PAIRS}),
        _put("/v1/models/reviews:predict", {"instances": [{"review": {"b64": _b64(_REVIEW.encode())}}]}),
        _put("/v1/models/passengers:classify", {"examples": [_PASSENGER], "context": {"sex": "b"}}),
        _put("/v1/models/flags:classify", {"examples": [{"x": row} for row in _FLAGS]}),
        _put("/v1/models/prices:regress", {"examples": [{"grid": [1, 2, 3, 4]}]}),
        *(Question(page, method="GET") for page in pages),
    ]


def _describe(name: str, array: np.ndarray, datatype: str = "FP32", **more: object) -> dict[str, object]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **more}


def _ask_v2() -> list[Question]:
    flags, pair = np.array(_FLAGS, np.float32), np.array(_PAIRS["b"], np.int32)
    review = {"name": "review", "shape": [1], "datatype": "BYTES", "data": [_REVIEW]}
    wanted = [{"name": "y", "parameters": {"classification": 2}}]
    tensors = [
        _describe("a", np.array(_PAIRS["a"], np.float32), data=_PAIRS["a"]),
        _describe("b", pair, "INT32", data=pair.ravel().tolist()),
    ]
    pages = ("", "/health/live", "/health/ready", "/models/pairs", "/models/flags/versions/2", "/models/flags/ready")
    statistics = ("/models/stats", "/models/flags/stats", "/models/flags/versions/1/stats")
    return [
        _put("/v2/models/flags/infer", {"id": "7", "inputs": [_describe("x", flags, data=_FLAGS)]}),
        _put("/v2/models/flags/versions/2/infer", {"inputs": [_describe("x", flags, data=flags.ravel().tolist())]}),
        _put("/v2/models/flags/infer", {"inputs": [_describe("x", flags, data=_FLAGS)], "outputs": wanted}),
        _put("/v2/models/pairs/infer", {"inputs": tensors, "parameters": {"quality": "best"}}),
        _put("/v2/models/reviews/infer", {"inputs": [review]}),
        _put("/v2/repository/index", {"ready": True}),
        _put("/v2/repository/models/flags/load", {}),
        _put("/v2/repository/models/flags/unload", {"parameters": {"unload_dependents": True}}),
        *(Question(f"/v2{page}", method="GET") for page in pages + statistics),
    ]


def _ask_v2_binary() -> list[Question]:
    flags, words = np.array(_FLAGS, "<f4"), _REVIEW.encode()
    text = len(words).to_bytes(4, "little") + words
    behind = (
        (_describe("x", flags), "flags", flags.tobytes()),
        (_describe("review", np.empty(1), "BYTES"), "reviews", text),
    )
    questions = []
    for tensor, model, data in behind:
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}).encode()
        headers = {HEADER_LENGTH: str(len(head))}
        questions.append(Question(f"/v2/models/{model}/infer", head + data, headers=headers))
    return [*questions, replace(questions[0], content_type="application/octet-stream")]


def _ask_operators() -> list[Question]:
    pages = (
        "/",
        "/health",
        "/ready",
        "/models",
        "/metrics",
        "/monitoring/prometheus/metrics",
        "/openapi.json",
        "/docs",
    )
    return [Question(page, method="GET") for page in pages]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _make_picture(kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (14, 17, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _make_sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(np.random.default_rng(0).integers(-20_000, 20_000, 600, np.int16).tobytes())
    return file.getvalue()
