"""A compression that might have happened."""

import numpy as np

from bmp.artifact.proof import Latency
from bmp.compression.evidence.kernels import KernelReport, KernelRow
from bmp.compression.gate import Paired, Promise, Recorder, judge
from bmp.compression.report import Report
from bmp.compression.search.outcome import Outcome
from bmp.compression.search.trial import Trial

FIGURES = [
    # name, score, raw, gzipped, ms, epochs
    ("float32", 0.9812, 1_070_000, 990_000, 0.0410, 0),
    ("float16", 0.9812, 536_000, 495_000, 0.0412, 0),
    ("dynamic", 0.9811, 270_000, 221_000, 0.0140, 0),
    ("int8", 0.9807, 271_000, 222_000, 0.0121, 0),
    ("int16x8", 0.9810, 272_000, 224_000, 0.0630, 0),
    ("qat", 0.9815, 271_000, 224_000, 0.0122, 4),
    ("prune 0.5", 0.9820, 1_070_000, 560_000, 0.0411, 6),
    ("prune 0.5, int8", 0.9817, 271_000, 138_000, 0.0122, 6),
    ("prune 0.8, int8", 0.9801, 271_000, 74_000, 0.0121, 6),
    ("prune 0.9, int8", 0.9779, 271_000, 43_000, 0.0121, 6),
    ("prune 0.95, int8", 0.9521, 271_000, 26_000, 0.0122, 6),
    ("cluster 16, int8", 0.9798, 271_000, 96_000, 0.0121, 6),
    ("prune 0.8, cluster 16, int8", 0.9791, 271_000, 39_000, 0.0122, 12),
    ("prune 0.8, cluster 16, qat", 0.9796, 271_000, 41_500, 0.0123, 16),
    ("channels 0.5", 0.9803, 330_000, 300_000, 0.0150, 6),
    ("channels 0.5, int8", 0.9795, 86_000, 71_000, 0.0062, 6),
    ("channels 0.5, prune 0.7, int8", 0.9783, 86_000, 30_500, 0.0062, 12),
    ("channels 0.75, int8", 0.9551, 31_000, 24_500, 0.0041, 6),
    ("student small, int8", 0.9765, 70_000, 58_000, 0.0055, 20),
]


def make_trials(figures=FIGURES):
    base = figures[0][1]
    return [
        Trial(
            name=name,
            spec=tuple(name.split(", ")),
            file=f"{name}.tflite",
            score=score,
            drop=base - score,
            raw_bytes=raw,
            gzip_bytes=packed,
            bits_bytes=round(packed * 0.95),
            latency={1: Latency(ms, ms * 1.2), 32: Latency(ms * 20, ms * 23)},
            epochs=epochs,
            duration_s=2.5 * epochs,
        )
        for name, score, raw, packed, ms, epochs in figures
    ]


def make_failure(name="two_of_four, int8", why="No layer has a kernel that the pattern fits."):
    return Trial(name=name, spec=("two_of_four", "int8"), failure=why)


def make_verdict(count=4000, lost=6, max_drop=0.005):
    true = np.arange(count) % 2
    after = true.copy()
    after[:lost] = 1 - after[:lost]
    records = []
    for decided in (true, after):
        recorder = Recorder("binary", ("cat", "dog"))
        recorder.update(decided[:, None] * 0.8 + 0.1, true)
        records.append(recorder.finish())
    return judge(Paired(*records), Promise(max_drop))


def make_report(*, recommended="channels 0.5, prune 0.7, int8", trials=None, verdicts=None, **changes):
    trials = [*make_trials(), make_failure()] if trials is None else trials
    verdicts = {recommended: make_verdict()} if verdicts is None else verdicts
    best = recommended if recommended != "float32" else None
    return Report(
        **{
            "model": "digits 3",
            "outcome": Outcome(tuple(trials), recommended, best, verdicts),
            "promise": Promise(0.005, metric="accuracy"),
            "goal": "balanced",
            "ending": "Nothing that is left is expected to be better.",
            "recipe": "compress:\n  chains:\n  - [channels, prune, int8]\n",
            "kernels": {
                recommended: KernelReport(
                    (KernelRow("FULLY_CONNECTED", "dense/MatMul", (1, 10), 1280, "XNNPACK int8", "41% zeros"),),
                    "XNNPACK int8 runs 1 of 1 operations.",
                )
            },
            "facts": {"seed": "0", "machine": "2 cores"},
            **changes,
        }
    )
