import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from bmp.training.history import Epoch, History, plot_history, read_history, write_history


def make_epoch(stage, number, *figures):
    return Epoch(stage, number, dict(zip(("loss", "accuracy", "val_loss", "val_accuracy"), figures, strict=True)), 0.1)


TRAIN = [make_epoch("train", number, 1 / number, 0.5, 2 / number, 0.4) for number in range(1, 5)]
PRUNE = [make_epoch("prune", number, 0.3, 0.9, 0.4, 0.8) for number in range(1, 3)]

FIGURES = st.floats(allow_nan=False)
METRICS = st.dictionaries(st.sampled_from(["loss", "r2", "val_loss", "val_r2", "a,b"]), FIGURES)
EPOCHS = st.builds(Epoch, st.sampled_from(["train", "prune"]), st.integers(1, 1000), METRICS, FIGURES)


@given(st.lists(EPOCHS, max_size=4))
def test_survives_its_csv_to_the_last_digit(tmp_path_factory, epochs):
    path = tmp_path_factory.getbasetemp() / "any-history.csv"
    write_history(History(epochs), path)
    assert read_history(path).epochs == epochs


def test_keeps_a_figure_that_is_not_a_number(tmp_path):
    write_history(History([make_epoch("train", 1, 0.1, 0.2, math.nan, 0.3)]), tmp_path / "history.csv")
    assert math.isnan(read_history(tmp_path / "history.csv").epochs[0].metrics["val_loss"])


def test_the_csv_has_one_named_column_a_figure(tmp_path):
    write_history(History(TRAIN[:1]), tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "stage,epoch,loss,accuracy,val_loss,val_accuracy,duration_s",
        "train,1,1.0,0.5,2.0,0.4,0.1",
    ]


def test_a_later_stage_goes_on_where_the_first_ended():
    history = History(list(TRAIN))
    history.extend(History(PRUNE))
    assert list(history) == [*TRAIN, *PRUNE] and len(history) == 6


def test_histories_share_nothing():
    one, other = History(), History()
    one.extend(History(TRAIN))
    assert len(other) == 0


@pytest.mark.parametrize("epochs", [TRAIN, TRAIN[:1], [*TRAIN, *PRUNE]], ids=["stage", "epoch", "stages"])
def test_draws_a_picture(tmp_path, epochs):
    plot_history(History(epochs), "accuracy", tmp_path / "history.png")
    image = imread(tmp_path / "history.png")
    assert image.shape[0] >= 300 and image.shape[1] >= 800
    left, right = np.array_split(image[..., :3], 2, axis=1)
    for half in (left, right):
        assert 0.005 < (half < 0.9).any(axis=-1).mean() < 0.5  # ink, but not all over


def test_draws_the_figures_it_is_given(tmp_path):
    def draw(epochs):
        plot_history(History(epochs), "accuracy", tmp_path / "history.png")
        return imread(tmp_path / "history.png")

    assert np.array_equal(draw(TRAIN), draw(TRAIN))
    assert not np.array_equal(draw(TRAIN), draw(TRAIN[::-1]))
