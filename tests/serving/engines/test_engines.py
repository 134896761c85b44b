"""Every engine: right answers from many threads at once, over many batch sizes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bmp.artifact.litert import LiteRTRunner
from bmp.run import Run
from serving.engines import ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_threads_and_batch_sizes_do_not_mix_answers(quick_run: Run, name: str) -> None:
    path, signature = quick_run.version.path / "model.tflite", quick_run.data.signature
    images = quick_run.data.test.inputs["image"]
    expected = LiteRTRunner(path, signature).run({"image": images})["probabilities"]
    engine = ENGINES[name](path, signature)
    engine.warm_up({"image": images[:4]})

    def ask(seed: int) -> bool:
        random = np.random.default_rng(seed)
        for _ in range(50):
            start, size = random.integers(0, 200), random.integers(1, 9)
            answer = engine.run({"image": images[start : start + size]})["probabilities"]
            if not np.allclose(answer, expected[start : start + size], atol=1e-6):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))
