"""Random raw examples of every kind, and for every transform what it is tried with."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soundfile
from PIL import Image

from bmp.transforms import Columns, Field, Preprocessing, build_steps

Random = np.random.Generator

WORDS = (
    "the",
    "Cat",
    "sat,",
    "naïve",
    "ÉCOLE",
    "東京",
    "a_b",
    "don't",
    "\t",
    "\n",
    "\x00",
    "<pad>",
    "🙂",
    "x" * 30,
    "",
)


def to_column(values) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def make_image(random: Random, *, largest: int = 60) -> bytes:
    height, width = random.integers(1, largest + 1, 2)
    blocks = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3)).repeat(5, 0).repeat(5, 1)[:height, :width]
    pixels = np.clip(blocks + random.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    if random.random() < 0.5:
        mode = random.choice(["L", "RGB"])
        image.convert(mode).save(
            file,
            "JPEG",
            quality=int(random.integers(1, 101)),
            subsampling=int(random.integers(0, 3)),
            progressive=bool(random.integers(2)),
            exif=make_orientation(int(random.integers(1, 9))),
        )
        return file.getvalue()
    mode = random.choice(["1", "L", "LA", "P", "RGB", "RGBA", "16 bits"])
    if mode == "16 bits":
        image = Image.fromarray(random.integers(0, 2**16, (height, width)).astype(np.uint16))
    elif mode == "P":
        image = image.quantize(int(random.choice([2, 4, 16, 200])))
        image.info["transparency"] = bytes(random.integers(0, 256, 2).tolist())
    else:
        image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(random.integers(0, 256, (height, width)).astype(np.uint8)))
    image.save(file, "PNG")
    return file.getvalue()


def make_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def make_wav(random: Random, *, rate: int | None = None, samples: int | None = None) -> bytes:
    rate = int(random.choice([4000, 8000, 11025, 16000, 22050, 44100, 48000])) if rate is None else rate
    samples = int(random.integers(1, rate // 4)) if samples is None else samples
    channels = int(random.integers(1, 4))
    subtype = str(random.choice(["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]))
    file = io.BytesIO()
    sound = random.uniform(-1, 1, (samples, channels)) * random.choice([1e-4, 0.1, 1.0])
    soundfile.write(file, sound, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def make_text(random: Random) -> str:
    return " ".join(random.choice(WORDS, random.integers(0, 12)))


def make_number(random: Random) -> np.float32:
    return np.float32(np.nan if random.random() < 0.2 else random.normal(50, 20))


def make_category(random: Random) -> str:
    return str(random.choice(["", "red", "green", "blue", "bleu clair", "ü", "東京", f"rare {random.integers(40)}"]))


def make_tensor(random: Random) -> np.ndarray:
    return np.append(random.normal(5, 3, 5), 7).reshape(2, 3).astype(np.float32)  # the last element never varies


MAKERS: dict[str, Callable] = {
    "number": make_number,
    "category": make_category,
    "text": make_text,
    "image": make_image,
    "audio": make_wav,
    "tensor": make_tensor,
}

FIELDS = (
    Field("age", "number"),
    Field("fare", "number"),
    Field("colour", "category"),
    Field("city", "category"),
    Field("note", "text"),
    Field("photo", "image"),
    Field("sound", "audio"),
    Field("grid", "tensor", "float32", (2, 3)),
)


@dataclass(frozen=True)
class Case:
    """What a transform is tried with: the raw features, and the steps of a recipe, of which it is the last."""

    names: tuple[str, ...]
    steps: list[dict]
    tolerance: float = 0.0
    fields: tuple[Field, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(field for field in FIELDS if field.name in self.names))

    def make(self, random: Random, count: int) -> Columns:
        columns = {}
        for one in self.fields:
            values = [MAKERS[one.kind](random) for _ in range(count)]
            columns[one.name] = np.stack(values) if one.kind in ("number", "tensor") else to_column(values)
        return columns

    def build(self) -> Preprocessing:
        """Unfitted, with what is needed around the step to make inputs of a model."""
        return Preprocessing(self.fields, build_steps(self.steps, self.fields))

    def fit(self, count: int = 200) -> Preprocessing:
        columns = self.make(np.random.default_rng(0), count)
        return self.build().fit(lambda: iter([columns]))


IMAGE = {"kind": "image", "field": "photo", "height": 12, "width": 9}
TOKENS = {"kind": "tokenize", "field": "note", "length": 20}
LOG_MEL = {"kind": "log_mel", "field": "sound", "sample_rate": 8000, "seconds": 0.2, "bands": 20}

CASES: dict[str, dict[str, Case]] = {
    "fill": {
        "mean": Case(("age", "fare"), [{"kind": "fill", "fields": ["age", "fare"]}]),
        "median": Case(("age",), [{"kind": "fill", "fields": ["age"], "value": "median"}]),
        "number": Case(("age",), [{"kind": "fill", "fields": ["age"], "value": -1}]),
        "tensor": Case(("grid",), [{"kind": "fill", "fields": ["grid"]}]),
        "category": Case(
            ("city",),
            [
                {"kind": "fill", "fields": ["city"], "value": "most_frequent"},
                {"kind": "one_hot", "fields": ["city"]},
            ],
        ),
        "text": Case(
            ("note",),
            [{"kind": "fill", "fields": ["note"], "value": "nothing said"}, {**TOKENS, "tokenizer": "bytes"}],
        ),
    },
    "standardise": {
        "numbers": Case(
            ("age", "fare"),
            [{"kind": "fill", "fields": ["age", "fare"]}, {"kind": "standardise", "fields": ["age", "fare"]}],
            1e-6,
        ),
        "tensor": Case(("grid",), [{"kind": "standardise", "fields": ["grid"]}], 1e-6),
    },
    "min_max": {
        "number": Case(("age",), [{"kind": "fill", "fields": ["age"]}, {"kind": "min_max", "fields": ["age"]}], 1e-6),
        "tensor": Case(("grid",), [{"kind": "min_max", "fields": ["grid"]}], 1e-6),
    },
    "one_hot": {
        "all": Case(("colour", "city"), [{"kind": "one_hot", "fields": ["colour", "city"]}]),
        "few": Case(("colour",), [{"kind": "one_hot", "fields": ["colour"], "max_size": 3}]),
    },
    "vocabulary": {"one": Case(("city",), [{"kind": "vocabulary", "fields": ["city"]}])},
    "join": {
        "row": Case(
            ("age", "colour", "grid"),
            [
                {"kind": "fill", "fields": ["age"]},
                {"kind": "one_hot", "fields": ["colour"]},
                {"kind": "join", "fields": ["colour", "age", "grid"], "name": "row"},
            ],
        ),
    },
    "image": {
        "colour": Case(("photo",), [{**IMAGE, "mean": [0.5], "std": [0.2, 0.25, 0.3]}], 1e-5),
        "grey": Case(("photo",), [{**IMAGE, "height": 40, "width": 50, "channels": 1}], 1e-6),
    },
    "augment": {
        "image": Case(
            ("photo",), [IMAGE, {"kind": "augment", "field": "photo", "flip_horizontal": True, "noise": 0.1}], 1e-6
        ),
    },
    "log_mel": {
        "resampled": Case(("sound",), [LOG_MEL], 1e-5),
        "high": Case(("sound",), [{**LOG_MEL, "sample_rate": 16000, "low_hz": 0, "high_hz": 7600.0}], 1e-5),
    },
    "tokenize": {
        "characters": Case(("note",), [TOKENS]),
        "end": Case(("note",), [{**TOKENS, "keep": "end", "vocabulary_size": 12}]),
        "bytes": Case(("note",), [{**TOKENS, "tokenizer": "bytes"}]),
        "bytes_end": Case(("note",), [{**TOKENS, "tokenizer": "bytes", "keep": "end"}]),
        "words": Case(("note",), [{**TOKENS, "tokenizer": "words", "vocabulary_size": 10}]),
        "bpe": Case(("note",), [{**TOKENS, "tokenizer": "bpe", "vocabulary_size": 280}]),
    },
}
"""By kind of transform, then by what is special."""

ALL_CASES = [(kind, name) for kind, cases in CASES.items() for name in cases]
