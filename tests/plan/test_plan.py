import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from test_recipes import CASES

from bmp.config import list_recipes, load_recipe
from bmp.errors import BmpError, ConfigError, TrainingError
from bmp.plan import plan as rooms
from bmp.plan.fit import SPARE
from bmp.plan.machine import Device, Machine
from bmp.plan.network import take_network
from bmp.plan.plan import Plan, make_plan
from bmp.plan.report import show, to_json
from bmp.plan.timing import StepTime
from bmp.plan.units import say_bytes

FITTED = ("random_forest", "svm")
SMALL = ("model.build=mlp", "model.args={hidden: [8]}")
"""A network that is traced in no time."""


@pytest.fixture(autouse=True)
def timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_BUDGET_S", 0.0)


def plan_digits(*overrides: str, **options) -> Plan:
    return make_plan(load_recipe("digits", [*SMALL, *overrides]), network=take_network(1e9, 1e-5), **options)


def read(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(plan, console)
    return console.file.getvalue()


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_can_be_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """tests/test_recipes.py does steps of each of them; here they take as long as is said."""
    monkeypatch.setattr(rooms, "measure_step", lambda *given, **options: StepTime(0.01, 0.01, 3))
    case = CASES[name]
    given = case.make_data(tmp_path, monkeypatch)
    plan = make_plan(load_recipe(name, [*given, *case.overrides, "train.jit=false"]), most_replicas=4)
    assert plan.fits_as_written and plan.cost.forward.total > 0
    assert not plan.cost.forward.uncounted
    assert (plan.speed is None) == (name in FITTED)
    assert json.loads(json.dumps(to_json(plan)))["fits"] is True
    assert ("fitted by its builder" in read(plan)) == (name in FITTED)


def test_what_is_printed_and_what_a_program_gets_is_what_was_planned():
    plan = plan_digits("train.epochs=3", most_replicas=4)
    out, tree = read(plan), to_json(plan)
    assert plan.total_steps == 3 * 40 and "120 steps of 32 examples" in out
    assert f"adam keeps {say_bytes(plan.cost.optimizer_bytes)}" in out
    assert "network     1 GB/s, 10 µs: given" in out and "each on a machine like this one" in out
    assert "…" not in out  # no table is cut at 80 columns
    assert tree["bytes"]["weights"] == plan.cost.weights_bytes == 4 * tree["parameters"]["trainable"]
    assert tree["flops"]["step"] == 3 * 32 * tree["flops"]["forward_example"]
    assert tree["speed"]["training_s"] == 120 * tree["speed"]["step_s"]
    assert [row["replicas"] for row in tree["speed"]["strong"]] == [1, 2, 4]
    assert [row["examples"] for row in tree["speed"]["weak"]] == [32, 32, 32]
    assert tree["speed"]["recommended"]["batch_size"] == 32


def give_memory(monkeypatch: pytest.MonkeyPatch, free_bytes: int, gpus: tuple[Device, ...] = ()) -> None:
    machine = Machine(2.0, Device("memory of this machine", free_bytes), gpus)
    monkeypatch.setattr(rooms, "read_machine", lambda: machine)
    monkeypatch.setattr(rooms, "read_own_bytes", lambda: 0)


def test_a_batch_that_does_not_fit_is_planned_in_pieces_that_do(monkeypatch: pytest.MonkeyPatch):
    whole = plan_digits("data.batch_size=all", most_replicas=1)
    beside = whole.pipeline_bytes
    give_memory(monkeypatch, int(beside + SPARE * whole.cost.replica_bytes(whole.batch, pieces=4)) + 1)
    plan = plan_digits("data.batch_size=all", most_replicas=1)
    assert not plan.fits_as_written and plan.pieces == 4 and plan.speed is not None
    assert "DOES NOT FIT as written, fits with train.accumulate: 4" in " ".join(read(plan).split())
    assert to_json(plan)["devices"][0]["accumulate"] == 4
    assert plan_digits("data.batch_size=all", "train.accumulate=4", most_replicas=1).fits_as_written


def test_what_fits_in_no_pieces_is_not_run(monkeypatch: pytest.MonkeyPatch):
    give_memory(monkeypatch, 1000)
    monkeypatch.setattr(rooms, "measure_step", lambda *given, **options: pytest.fail("a step was run"))
    plan = plan_digits()
    assert plan.speed is None and not plan.fits_as_written
    assert "Not even single examples fit; no step was run." in read(plan) and "DOES NOT FIT" in read(plan)


def test_weights_over_the_memory_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rooms, "read_free_bytes", lambda: 1000)
    with pytest.raises(TrainingError, match=r"DOES NOT FIT: the weights and the state of the optimizer alone"):
        plan_digits()


def test_replicas_are_on_the_gpus_where_there_are_any(monkeypatch: pytest.MonkeyPatch):
    give_memory(monkeypatch, 10**11, (Device("GPU 0: A", 10**9), Device("GPU 1: B", None)))
    plan = plan_digits(most_replicas=2)
    assert (plan.replicas, plan.share) == (2, 16)
    assert [(fit.device.name, fit.verdict) for fit in plan.fits] == [
        ("GPU 0: A", "fits"),
        ("GPU 1: B", "unknown"),
        ("memory of this machine", "fits"),
    ]
    assert "GPU 1: B" in read(plan)


def test_one_device_uses_the_first_gpu_only(monkeypatch: pytest.MonkeyPatch):
    give_memory(monkeypatch, 10**11, (Device("GPU 0: A", 10**9), Device("GPU 1: B", 10)))
    plan = plan_digits("distribution.strategy=one_device", most_replicas=2)
    assert plan.replicas == 1 and plan.fits_as_written  # the second is too small, and not used
    assert [fit.is_used for fit in plan.fits] == [True, False, True]


def test_replicas_on_the_cpu_share_the_memory():
    plan = plan_digits("distribution.cpu_replicas=4", most_replicas=1)
    assert (plan.replicas, plan.share) == (4, 8)
    one = plan.cost.replica_bytes(8)
    assert plan.fits[0].needed_bytes == plan.process_bytes + plan.pipeline_bytes + int(SPARE * 4 * one)


@pytest.mark.parametrize(
    ("override", "error", "said"),
    [
        ("train.optimizer=adan", ConfigError, "No optimizer is named 'adan'"),
        ("train.schedule=cosin", ConfigError, "No schedule is named 'cosin'"),
        ("data.source=sklern", ConfigError, "No source is named 'sklern'"),
        ("model.build=cnm", ConfigError, "No model is named 'cnm'"),
        ("model.args.fitlers=3", ConfigError, "takes no argument 'fitlers'"),
        ("distribution.strategy=miror", ConfigError, "No strategy is named 'miror'"),
        ("distribution.cpu_replicas=40", ConfigError, "A batch of 32 cannot be dealt out to 40 replicas"),
    ],
)
def test_a_wrong_recipe_is_refused_as_a_run_refuses_it(override: str, error: type[BmpError], said: str):
    with pytest.raises(error, match=said):
        plan_digits(override)
