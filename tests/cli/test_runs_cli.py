import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from bmp.cli.compare import find_best, find_differences, flatten, plot_comparison
from bmp.cli.runs import runs_group
from bmp.config import load_recipe
from bmp.errors import BmpError, ConfigError, UnknownNameError
from bmp.runs import RunDirectory, begin_status
from bmp.training.history import Epoch, History, write_history


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BMP_RUNS", raising=False)


def make_history(start, epochs=4, stage="train", rate=0.1):
    return [
        Epoch(
            stage,
            number,
            {
                "loss": start / number,
                "accuracy": 1 - start / number / 2,
                "val_loss": start / number + 0.05,
                "val_accuracy": 0.9 - start / number / 2,
            },
            0.5,
            step=number * 20,
            learning_rate=rate,
            examples_per_s=1234.5,
        )
        for number in range(1, epochs + 1)
    ]


def make_run(name, *overrides, epochs=(), root="runs", **changes):
    directory = RunDirectory.create(Path(root) / name, load_recipe("digits", overrides), go_on="")
    figures = dict(epochs[-1].metrics) if epochs else {}
    started = datetime(2026, 1, 1 + len(list(Path(root).iterdir())), tzinfo=UTC)
    status = begin_status("digits").change(started=started, score="accuracy", figures=figures)
    directory.write_status(status.change(**changes))
    if epochs:
        write_history(History(list(epochs)), directory.history_file)
    return directory


def call(*arguments):
    result = CliRunner().invoke(runs_group, arguments)
    if isinstance(result.exception, BmpError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


# --- list ---


def test_lists_how_every_run_stands():
    done = {"state": "finished", "stage": "done", "train_s": 3840, "published": "digits/3", "step": 80}
    make_run("digits-1", epochs=make_history(0.8), **done)
    make_run("digits-2", stage="train", step=1234, total_steps=12000)
    make_run("digits-3", state="failed", error="The loss is nan.", train_s=9)
    make_run("digits-4", pid_started=1)
    (Path("runs") / "old").mkdir()
    out = call("list")
    rows = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert " ".join(rows["digits-1"].split()[2:]) == "finished done 0.8000 accuracy 0.2500 1 h 04 min digits/3"
    assert "running" in rows["digits-2"] and "1,234/12,000" in rows["digits-2"]
    assert "failed" in rows["digits-3"] and "9 s" in rows["digits-3"]
    assert "died" in rows["digits-4"]
    assert "old cannot be read: There is no runs/old/status.json" in out


def test_lists_for_programs():
    make_run("digits-1", epochs=make_history(0.8), state="finished")
    (Path("runs") / "old").mkdir()
    first, second = json.loads(call("list", "--json"))
    assert (first["run"], first["state"], first["status"]["figures"]["val_accuracy"]) == ("digits-1", "finished", 0.8)
    assert (second["state"], second["status"]) == ("unreadable", None) and "older bmp" in second["problem"]


def test_says_that_there_is_nothing_to_list():
    with pytest.raises(ConfigError, match="no directory 'runs' of runs"):
        call("list")
    Path("other").mkdir()
    with pytest.raises(BmpError, match="no run below 'other'"):
        call("list", "--root", "other")
    assert json.loads(call("list", "--root", "other", "--json")) == []


# --- show ---


def test_shows_a_run_whole():
    epochs = [*make_history(0.8), *make_history(0.4, epochs=2, stage="prune")]
    make_run("digits-1", "train.learning_rate=0.02", epochs=epochs, state="finished", published="digits/3")
    out = call("show", "dig")
    lines = [line.split() for line in out.splitlines()]
    assert ["state", "finished"] in lines and ["published", "digits/3"] in lines
    assert ["train.learning_rate", "0.02"] in lines and ["data.args.name", "digits"] in lines
    assert ["train", "4", "80", "0.2000", "0.9000", "0.2500", "0.8000", "0.1", "1,234"] in lines
    assert [line[0] for line in lines if line and line[0] == "prune"] == ["prune"] * 2
    assert ["history", "runs/digits-1/history.csv"] in lines and "confusion" not in out


def test_shows_the_last_epochs_of_many():
    make_run("digits-1", epochs=make_history(0.8, epochs=40))
    out = call("show", "digits-1")
    assert "the last 25 of 40; all of them are in runs/digits-1/history.csv" in out
    assert "\ntrain     40 " in out and "\ntrain     15 " not in out


def test_shows_why_a_run_ended():
    make_run("failed", state="failed", error="The loss is nan.")
    make_run("died", pid=123, pid_started=1)
    assert "failed: The loss is nan.\n" in call("show", "failed")
    assert "died: its process 123 on " in call("show", "died")


def test_shows_what_is_left_of_a_run_without_status():
    make_run("torn", epochs=make_history(0.8)).status_file.write_text("{")
    out = call("show", "torn")
    assert "unreadable: runs/torn/status.json is damaged" in out and "train.learning_rate" in out and "0.2500" in out


def test_shows_for_programs():
    make_run("digits-1", epochs=make_history(0.8))
    shown = json.loads(call("show", "digits-1", "--json"))
    assert shown["recipe"] == load_recipe("digits").model_dump(mode="json")
    assert shown["files"]["recipe"] == "runs/digits-1/recipe.yaml"
    assert History.from_json(shown["history"]).epochs == make_history(0.8)


def test_guesses_the_run_that_was_meant():
    make_run("digits-1")
    with pytest.raises(UnknownNameError, match="Did you mean 'digits-1'"):
        call("show", "digit-1")


# --- compare ---


def test_compares_recipes_metrics_and_curves():
    make_run("one", "train.learning_rate=0.01", epochs=[*make_history(0.8), *make_history(9, stage="prune")])
    make_run("two", "train.learning_rate=0.1", "data.batch_size=64", epochs=make_history(0.4))
    out = call("compare", "one", "two")
    lines = [line.split() for line in out.splitlines()]
    assert ["train.learning_rate", "0.01", "0.1"] in lines and ["data.batch_size", "32", "64"] in lines
    assert not any("train.epochs" in line for line in lines)
    rows = [" ".join(line) for line in lines]
    assert "val_loss 0.2500 (0.2500 at 4) 0.1500 (0.1500 at 4)" in rows
    assert "val_accuracy 0.8000 (0.8000 at 4) 0.8500 (0.8500 at 4)" in rows
    assert ["epochs", "4", "4"] in lines and ["examples/s", "1,234", "1,234"] in lines
    assert out.endswith("picture  compare.png\n") and imread("compare.png").shape[1] == 1200


def test_compares_one_metric_alone():
    make_run("one", epochs=make_history(0.8))
    make_run("two", epochs=make_history(0.4))
    out = call("compare", "one", "two", "--metric", "val_loss", "--out", "one.png")
    assert "recipe: no difference" in out and "val_loss" in out and "accuracy" not in out
    assert Path("one.png").is_file() and not Path("compare.png").exists()
    with pytest.raises(UnknownNameError, match="Did you mean 'val_loss'"):
        call("compare", "one", "two", "--metric", "val_los")


def test_compares_a_run_that_has_nothing_to_show_yet():
    make_run("one", epochs=make_history(0.8))
    make_run("new", "train.epochs=2")
    out = call("compare", "one", "new")
    assert "train.epochs" in out
    assert "val_loss 0.2500 (0.2500 at 4) –" in [" ".join(row.split()) for row in out.splitlines()]
    make_run("newer")
    assert "no picture: none of the runs has finished an epoch" in call("compare", "new", "newer", "--out", "no.png")
    assert not Path("no.png").exists()


def test_tells_runs_of_one_name_apart_by_their_paths():
    make_run("same", epochs=make_history(0.8), root="here")
    make_run("same", epochs=make_history(0.4), root="there")
    out = call("compare", "here/same", "there/same")
    assert "here/same" in out and "there/same" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "there is only one run"),
        (["one", "runs/one"], "the run 'one' is named twice"),
        (["one", "two", "--out", "no/where.png"], "in a directory that exists"),
        (["one", "two", "--out", "curves.txt"], "ends in .png"),
    ],
)
def test_says_what_cannot_be_compared(arguments, said):
    make_run("one", epochs=make_history(0.8))
    make_run("two", epochs=make_history(0.4))
    with pytest.raises(ConfigError, match=said):
        call("compare", *arguments)


def test_flattens_a_recipe_to_dotted_keys():
    steps = [{"kind": "image"}, {"kind": "join", "fields": ["x"]}]
    tree = {"a": {"b": 1, "c": [1, 2], "d": {}}, "steps": steps, "n": None}
    assert flatten(tree) == {
        "a.b": 1,
        "a.c": [1, 2],
        "a.d": {},
        "steps[0].kind": "image",
        "steps[1].kind": "join",
        "steps[1].fields": ["x"],
        "n": None,
    }


def test_finds_only_what_differs():
    recipes = {"one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3, "c": 4}, "three": {"a": 1, "b": 2}}
    assert find_differences(recipes) == {"b": [2, 3, 2], "c": [None, 4, None]}


@pytest.mark.parametrize(("name", "best"), [("val_loss", 2), ("mae", 2), ("val_accuracy", 1), ("r2", 1)])
def test_the_best_is_the_least_loss_and_the_greatest_score(name, best):
    epochs = [Epoch("train", number, {name: value}, 1.0) for number, value in enumerate((0.5, 0.1, 0.5, 0.1), start=1)]
    assert find_best(epochs, name).epoch == best


def test_every_run_has_a_colour_of_its_own(tmp_path):
    def count_colours(runs):
        histories = {f"run-{number}": History(make_history(0.2 + number / 10)) for number in range(runs)}
        plot_comparison(histories, ["loss"], tmp_path / "compare.png")
        image = (imread(tmp_path / "compare.png")[..., :3] * 255).astype(int).reshape(-1, 3)
        colours, counts = np.unique(image, axis=0, return_counts=True)
        vivid = np.ptp(colours, axis=1) > 60  # no grey
        return (vivid & (counts > 200)).sum()

    assert [count_colours(2), count_colours(9), count_colours(12)] == [2, 9, 12]
