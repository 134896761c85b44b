import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from bmp.errors import BmpError
from bmp.training.history import Epoch, History, plot_history, read_history, write_history


def make_epoch(stage, number, *figures):
    return Epoch(stage, number, dict(zip(("loss", "accuracy", "val_loss", "val_accuracy"), figures, strict=True)), 0.1)


TRAIN = [make_epoch("train", number, 1 / number, 0.5, 2 / number, 0.4) for number in range(1, 5)]
PRUNE = [make_epoch("prune", number, 0.3, 0.9, 0.4, 0.8) for number in range(1, 3)]

FIGURES = st.floats(allow_nan=False)
METRICS = st.dictionaries(st.sampled_from(["loss", "r2", "val_loss", "val_r2", "a,b"]), FIGURES)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
EPOCHS = st.builds(
    Epoch,
    st.sampled_from(["train", "prune"]),
    st.integers(1, 1000),
    METRICS,
    FINITE,
    step=st.none() | st.integers(1, 10**12),
    learning_rate=st.none() | FINITE,
    examples_per_s=st.none() | FINITE,
)


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
        "stage,epoch,step,loss,accuracy,val_loss,val_accuracy,learning_rate,examples_per_s,duration_s",
        "train,1,,1.0,0.5,2.0,0.4,,,0.1",
    ]
    write_history(History([replace(TRAIN[0], step=20, learning_rate=1e-3, examples_per_s=99.5)]), tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines()[1] == "train,1,20,1.0,0.5,2.0,0.4,0.001,99.5,0.1"


def test_reads_the_csv_of_an_older_release(tmp_path):
    (tmp_path / "old.csv").write_text("stage,epoch,loss,duration_s\ntrain,1,0.5,0.1\n")
    assert read_history(tmp_path / "old.csv").epochs == [Epoch("train", 1, {"loss": 0.5}, 0.1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'stage'"),
        ("stage,loss,duration_s\ntrain,0.5,0.1\n", "no column 'epoch'"),
        ("stage,epoch,loss,duration_s\ntrain,one,0.5,0.1\n", "cannot be read as the history of a run"),
        ("stage,epoch,loss,duration_s\ntrain,1\n", "cannot be read as the history of a run"),
        ("stage,epoch,loss,duration_s\ntrain,1,2,3,4\n", "cannot be read as the history of a run"),
    ],
)
def test_says_what_is_wrong_with_a_csv(tmp_path, text, said):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(BmpError, match=said):
        read_history(tmp_path / "bad.csv")


@given(st.lists(EPOCHS, max_size=4))
def test_survives_json_to_the_last_digit(epochs):
    text = json.dumps(History(epochs).to_json())
    assert History.from_json(json.loads(text)).epochs == epochs


def test_json_has_no_number_that_json_does_not_know():
    figures = [math.nan, math.inf, -math.inf, 0.1]
    text = json.dumps(History([make_epoch("train", 1, *figures)]).to_json(), allow_nan=False)
    back = History.from_json(json.loads(text)).epochs[0].metrics.values()
    assert np.array_equal(list(back), figures, equal_nan=True)


@pytest.mark.parametrize("rows", [[{}], [{"metrics": {}, "rank": 1}], [{"metrics": {"loss": "low"}}], [3], 3])
def test_says_that_json_is_no_history(rows):
    with pytest.raises(BmpError, match="This is no history"):
        History.from_json(rows)


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


def test_draws_the_learning_rate_when_it_changed(tmp_path):
    def draw(*rates):
        epochs = [replace(epoch, learning_rate=rate) for epoch, rate in zip(TRAIN, rates, strict=True)]
        plot_history(History(epochs), "accuracy", tmp_path / "history.png")
        return imread(tmp_path / "history.png")

    constant, changed = draw(0.1, 0.1, 0.1, 0.1), draw(0.4, 0.3, 0.2, 0.1)
    assert changed.shape[1] == constant.shape[1] * 3 // 2
    third = changed[:, constant.shape[1] :, :3]
    assert 0.005 < (third < 0.9).any(axis=-1).mean() < 0.5
    assert draw(None, None, None, None).shape == constant.shape
