"""Runs of several processes: they train what one would, publish once, and go on when one of them is lost."""

import io

import numpy as np
import pytest
from processes import Place, drop_durations, end, losses, read_digest, wait_until
from rich.console import Console

import bmp.run
from bmp.config import load_recipe

PLAIN = "compress={max_drop: 0.9, chains: []}"
EXACT = (
    *("train.epochs=3", "train.deterministic=true", "train.checkpoint.every=10 steps"),
    *("model.args.dropout=0", PLAIN),
)
"""Of the digits recipe: nothing in the network draws numbers; 1,259 examples are no multiple of its batch of 32."""
TROUBLE = ("Traceback", "oordination", "ollective", "UNAVAILABLE", "CANCELLED", "ABORTED", "DEADLINE_EXCEEDED")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(name, *overrides, recipe=, launch=)` runs in a new place; returns it and what was printed."""
    places = []

    def start(name, *overrides, **options):
        places.append(Place(tmp_path_factory.mktemp(name), overrides, **options))
        code, stdout, stderr = places[-1].finish()
        assert code == 0, stdout + stderr
        assert not places[-1].ranks()
        return places[-1], stdout, stderr

    yield start
    for place in places:
        place.kill()


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Losses of the same training on one device, in this process."""
    directory = tmp_path_factory.mktemp("one")
    recipe = load_recipe("digits", [*EXACT, f"publish.root={directory / 'registry'}"])
    return losses(bmp.run.run(recipe, run_dir=directory / "run", console=Console(file=io.StringIO())).history)


@pytest.fixture(scope="module")
def two_workers(run):
    return run("workers", *EXACT, recipe="digits", launch=("--workers", "2"))


def test_two_replicas_in_one_process_train_what_one_does(run, one_device):
    place, stdout, _ = run("replicas", *EXACT, "distribution.cpu_replicas=2", recipe="digits")
    assert "mirrored, 2 replicas" in stdout
    np.testing.assert_allclose(losses(place.history()), one_device, atol=1e-5, rtol=0)


def test_two_workers_train_what_one_device_does(two_workers, one_device):
    place, stdout, _ = two_workers
    assert "multi_worker, 2 replicas" in stdout
    assert len(place.history()) == 3
    np.testing.assert_allclose(losses(place.history()), one_device, atol=1e-5, rtol=0)


def test_two_workers_publish_one_version_and_end_quietly(two_workers):
    place, stdout, stderr = two_workers
    assert place.registry.versions("digits") == [1]
    assert (place.status().state, place.status().published) == ("finished", "digits/1")
    assert stdout.count("published  ") == 1
    assert stderr.splitlines()[-1] == "bmp: finished at step 120."
    assert {file.name for file in place.run.logs.rglob("*.log")} == {"worker-0.log", "worker-1.log"}
    assert not [line for line in place.logs().splitlines() if any(word in line for word in TROUBLE)]


def test_a_lost_worker_changes_nothing(two_workers, tmp_path):
    reference, printed, _ = two_workers
    place = Place(tmp_path / "place", EXACT, recipe="digits", launch=("--workers", "2"))
    try:
        process = place.start()
        wait_until(process, lambda: place.newest("train") > 20)
        place.ranks()["worker-1"].kill()
        code, stdout, stderr = end(process)
        assert not place.ranks()
    finally:
        place.kill()
    assert code == 0, stderr
    assert "restart 1 of 3" in stderr and "finished at step 120, after 1 restart." in stderr
    assert "[worker 0] resumed: stage 'train' from step " in stdout
    assert read_digest(stdout) == read_digest(printed)
    assert drop_durations(place.history()) == drop_durations(reference.history())
    assert place.registry.versions("digits") == [1]


def test_parameter_servers_train_something_of_use(run):
    launch = ("--workers", "1", "--ps", "1")
    place, stdout, _ = run("servers", "train.epochs=4", PLAIN, recipe="digits", launch=launch)
    assert "parameter_server" in stdout
    assert place.registry.versions("digits") == [1]
    (variant,) = place.registry.resolve("digits").read_manifest().variants
    assert variant.measured.test_score > 0.9
