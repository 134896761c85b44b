"""Sound files: decoded, mixed to one channel, resampled, cut to length, and turned into a log-mel spectrogram."""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Self

import numpy as np
from pydantic import Field as Setting
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bmp.errors import DataError
from bmp.transforms.base import Columns, Field, Fields, Step, stack_examples
from bmp.transforms.resample import count_needed, resample

RATES_HZ = (1_000, 192_000)
"""Least and greatest sample rate of a file."""


class LogMel(Step):
    """A WAV file becomes a log-mel spectrogram, float32 `(frames, bands)`: how loud each band is, frame by frame.

    Mel bands as in the HTK Book 3.4, 5.4: triangles that overlap by half, evenly spaced on the scale
    `2595 log10(1 + f / 700)`. Frames under a Hann window, power spectrum, natural logarithm of `power + floor`.
    All in float64 but the result.
    """

    kind: Literal["log_mel"] = "log_mel"
    field: str
    """A sound."""
    sample_rate: int = Setting(16_000, ge=RATES_HZ[0], le=RATES_HZ[1])
    """In Hz; files of another rate are resampled."""
    seconds: PositiveFloat = 1.0
    """Shorter sounds end in silence, of longer ones the start is taken."""
    frame_ms: PositiveFloat = 25.0
    hop_ms: PositiveFloat = 10.0
    """From the start of a frame to that of the next."""
    bands: PositiveInt = 40
    low_hz: NonNegativeFloat = 20.0
    """Where the lowest band starts."""
    high_hz: PositiveFloat | None = None
    """Where the highest band ends; None is half the sample rate."""
    floor: PositiveFloat = 1e-6
    """Power that is added before the logarithm."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.hop_samples < 1 or self.frame_samples < 2:
            raise ValueError("frame_ms or hop_ms is shorter than a sample")
        if self.samples < self.frame_samples:
            raise ValueError("frame_ms is longer than seconds")
        if not self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise ValueError(f"low_hz < high_hz <= {self.sample_rate / 2:g}, half the sample rate, does not hold")
        if not self.mel_weights.any(axis=0).all():
            raise ValueError(
                "bands is too high: some would be narrower than the spectrum is fine; use a longer frame_ms"
            )
        return self

    @property
    def top_hz(self) -> float:
        """Where the highest band ends."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    @property
    def samples(self) -> int:
        """Samples of a sound after resampling."""
        return round(self.seconds * self.sample_rate)

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return round(self.frame_ms * self.sample_rate / 1000)

    @property
    def hop_samples(self) -> int:
        """Samples from a frame to the next."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def frames(self) -> int:
        """Frames of a sound; all lie within it."""
        return 1 + (self.samples - self.frame_samples) // self.hop_samples

    @property
    def fft_size(self) -> int:
        """The power of two that a frame fits in."""
        return 1 << (self.frame_samples - 1).bit_length()

    @property
    def window(self) -> np.ndarray:
        """Hann, periodic: float64 `(frame_samples,)`."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame_samples) / self.frame_samples)

    @property
    def mel_weights(self) -> np.ndarray:
        """How much each frequency of the spectrum counts in each band: float64 `(fft_size / 2 + 1, bands)`."""
        return _compute_mel_weights(self.sample_rate, self.fft_size, self.bands, self.low_hz, self.top_hz)

    def plan(self, fields: Fields) -> Fields:
        """The sound becomes a tensor."""
        self.find(fields, self.field, "audio")
        return fields | {self.field: Field(self.field, "tensor", "float32", (self.frames, self.bands))}

    def run(self, columns: Columns) -> Columns:
        """Files `(N,)` in, float32 `(N, frames, bands)` out.

        Raises:
            DataError: One is no WAV file, is damaged or empty, or has a sample rate out of range.
        """
        return columns | {self.field: stack_examples(self.field, columns[self.field], self._run_file)}

    def read(self, data: bytes) -> tuple[np.ndarray, int]:
        """Decodes as much of a WAV file as is needed.

        Returns:
            float64 `(n,)` of one channel, and its sample rate.

        Raises:
            DataError: It is no WAV file, is damaged or empty, or has a sample rate out of range.
        """
        return decode_wav(data, lambda rate: count_needed(rate, self.sample_rate, self.samples))

    def _run_file(self, data: bytes) -> np.ndarray:
        samples, rate = self.read(data)
        samples = resample(samples, rate, self.sample_rate, self.samples)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.frame_samples)[:: self.hop_samples]
        spectrum = np.fft.rfft(windows * self.window, self.fft_size)  # (frames, fft_size / 2 + 1)
        power = spectrum.real**2 + spectrum.imag**2
        return np.log(power @ self.mel_weights + self.floor).astype(np.float32)


@lru_cache(maxsize=16)  # a served step is asked for the same ones with every request
def _compute_mel_weights(rate: int, fft_size: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    corners = np.linspace(_to_mel(low_hz), _to_mel(high_hz), bands + 2)  # a band ends where its second next starts
    low, centre, top = corners[:-2], corners[1:-1], corners[2:]
    mels = _to_mel(np.arange(fft_size // 2 + 1) * (rate / fft_size))[:, None]
    return np.maximum(0.0, np.minimum((mels - low) / (centre - low), (top - mels) / (top - centre)))


def _to_mel(frequency: np.ndarray | float) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0)


def decode_wav(data: bytes, count: Callable[[int], int] | None = None) -> tuple[np.ndarray, int]:
    """Decodes a WAV file of 8 to 32 bits or floats, and mixes its channels to one.

    Args:
        data: The file.
        count: Samples of each channel to read at most, given the sample rate; None reads all.

    Returns:
        float64 `(n,)`, -1 to 1 for whole numbers, and the sample rate in Hz.

    Raises:
        DataError: It is no WAV file, is damaged or empty, holds NaN or infinity, or has a sample rate out of range.
    """
    import soundfile

    if not (data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE"):
        raise DataError(
            f"expected a WAV file, but it starts with {data[:12].hex(' ') or 'nothing'}.",
            expected="a WAV file",
            received=data[:12].hex(" ") or "no bytes",
        )
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
                raise DataError(
                    f"the sound has {rate} samples a second; expected {RATES_HZ[0]} to {RATES_HZ[1]}.",
                    expected=f"{RATES_HZ[0]} to {RATES_HZ[1]} Hz",
                    received=f"{rate} Hz",
                )
            samples = file.read(-1 if count is None else count(rate), "float64", always_2d=True)  # (n, channels)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", error)  # the whole message names the object it read from
        raise DataError(f"the WAV file is damaged ({reason}).") from error
    if not len(samples):
        raise DataError("the WAV file holds no sound.")
    if not np.isfinite(samples).all():
        raise DataError("the WAV file holds NaN or infinity.")
    return samples.mean(axis=1), rate
