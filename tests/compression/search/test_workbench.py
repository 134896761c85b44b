"""The workbench: each stage is made once, and what was made for one call is there for the next."""

import json
import shutil

import numpy as np
import pytest
from conftest import make_trainer

from bmp.compression.chain import Chain, read_chain
from bmp.compression.search.workbench import Workbench, open_workbench, read_form
from bmp.compression.technique import Form
from bmp.config import load_recipe
from bmp.errors import BmpError, StoppedError
from bmp.training.stop import StopRequest

PRUNE, CLUSTER = {"prune": {"sparsity": 0.5}}, {"cluster": {"clusters": 8}}


@pytest.fixture(scope="module")
def recipe(tiny_run):
    return load_recipe(str(tiny_run.directory / "recipe.yaml"))


@pytest.fixture
def open_bench(tiny_run, tiny_trainer, recipe):
    """`open_bench(directory, **changes)` is a workbench with the tiny model; changes are of `compress`."""

    def start(directory=None, **changes):
        changed = recipe.model_copy(update={"compress": recipe.compress.model_copy(update=changes)})
        return open_workbench(tiny_run.model, changed, tiny_trainer, directory)

    return start


def stages(history):
    return [epoch.stage for epoch in history]


def test_what_chains_share_is_made_once_and_the_model_is_not_touched(open_bench, tiny_run):
    before, bench = tiny_run.model.get_weights(), open_bench()
    made = bench.make_all([read_chain(spec) for spec in ([PRUNE], [PRUNE, "int8"], [PRUNE, CLUSTER], [])])
    assert stages(bench.history) == ["prune-0.5"] * 2 + ["prune-0.5_cluster-8"] * 2
    assert [one.epochs for one in made] == [2, 2, 4, 0]
    assert [one.failure for one in made] == [None] * 4
    pruned, int8, clustered, plain = (one.form for one in made)
    assert int8.model is pruned.model and (pruned.storage.kind, int8.storage.kind) == ("float32", "int8")
    assert {pattern.kind for pattern in clustered.patterns} == {"zeros", "values"}
    assert plain.model is tiny_run.model
    for weight, old in zip(tiny_run.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_second_call_finds_what_the_first_has_made(open_bench, tmp_path):
    chain = read_chain([PRUNE, CLUSTER, "int8"])
    first = open_bench(tmp_path / "stages").make(chain).form
    bench = open_bench(tmp_path / "stages")
    assert bench.forecast_s(chain, 1.0) == 0
    again = bench.make(chain).form
    assert len(bench.history) == 0
    assert (again.storage, again.patterns, again.notes) == (first.storage, first.patterns, first.notes)
    assert again.history.to_json() == first.history.to_json()
    for weight, old in zip(again.model.get_weights(), first.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, old)
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == sorted(
        prefix.digest(bench.base) for prefix in bench.at_share(chain, 1.0).prefixes()[:2]
    )


@pytest.mark.parametrize("changes", [{"learning_rate": 0.1}, {"epochs": 3}])
def test_what_was_made_otherwise_is_not_taken_for_it(open_bench, changes):
    chain = read_chain([PRUNE])
    assert open_bench().digest(chain) == open_bench().digest(chain)
    assert open_bench(**changes).digest(chain) != open_bench().digest(chain)


def test_a_share_of_the_epochs_is_another_result(open_bench):
    bench, chain = open_bench(), read_chain([PRUNE, "int8"])
    assert bench.at_share(chain, 0.5).to_spec() == [{"prune": {"sparsity": 0.5, "epochs": 1}}, "int8"]
    assert bench.at_share(chain, 0.01).to_spec() == bench.at_share(chain, 0.5).to_spec()
    assert bench.digest(chain, 0.5) != bench.digest(chain)
    assert (bench.make(chain, 0.5).epochs, bench.make(chain).epochs) == (1, 2)
    assert stages(bench.history) == ["prune-0.5"] + ["prune-0.5-2"] * 2, "their checkpoints must not meet"


def test_the_forecast_counts_what_is_missing(open_bench):
    bench, chain = open_bench(), read_chain([PRUNE, CLUSTER])
    assert bench.forecast_s(chain, 1.0) == 0, "nothing was timed"
    assert bench.fit_share(1.0) == 1
    bench.epoch_s = 10.0
    assert bench.forecast_s(chain, 1.0) == 40
    assert bench.forecast_s(chain, 0.5) == 20
    assert bench.forecast_s(Chain(), 1.0) == 0
    assert (bench.fit_share(None), bench.fit_share(200.0), bench.fit_share(3600.0)) == (1, 0.5, 1)
    bench.epoch_s = None
    bench.make(read_chain([PRUNE]))
    assert bench.epoch_s > 0
    assert bench.forecast_s(chain, 1.0) == pytest.approx(2 * bench.epoch_s)


def test_a_chain_that_cannot_be_carried_out_says_why(open_bench):
    made = open_bench().make(read_chain([{"channels": {"remove": 0.5, "multiple": 64}}, "int8"]))
    assert made.form is None and made.failure.startswith("No layer can lose channels at remove: 0.5")


def test_a_stop_leaves_nothing_half_made(tiny_run, recipe, tmp_path):
    stop = StopRequest()
    bench = open_workbench(tiny_run.model, recipe, make_trainer(tiny_run.data, stop), tmp_path / "stages")
    bench.make(read_chain([PRUNE]))
    before = sorted((tmp_path / "stages").iterdir())
    stop.exit_code = 130
    with pytest.raises(StoppedError) as caught:
        bench.make(read_chain([PRUNE, CLUSTER]))
    assert caught.value.exit_code == 130
    assert sorted((tmp_path / "stages").iterdir()) == before


def test_layers_are_rewritten_once_for_techniques_that_work_on_weights(tiny_run, tiny_trainer, open_bench):
    seen = []

    def rewrite(model):
        seen.append(model)
        return model, ("rewritten.",)

    workshop = open_bench().workshop
    bench = Workbench(tiny_run.model, workshop, base="base", legalise=rewrite)
    assert bench.make(read_chain(["int8"])).form.notes == () and not seen
    for spec in ([PRUNE], [PRUNE, CLUSTER]):
        assert bench.make(read_chain(spec)).form.notes.count("rewritten.") == 1
    assert len(seen) == 1 and seen[0] is tiny_run.model
    bench.make(read_chain([{"channels": {"remove": 0.25}}, PRUNE]))
    assert len(seen) == 2 and seen[1] is not tiny_run.model


def test_the_original_teaches_where_the_recipe_says_so(tiny_run, tiny_trainer, recipe):
    compress = recipe.compress.model_validate({"distill": {"temperature": 2.0, "alpha": 0.9}})
    taught = recipe.model_copy(update={"compress": compress})
    bench = open_workbench(tiny_run.model, taught, tiny_trainer)
    assert bench.workshop.distillation["teacher"] is tiny_run.model
    assert bench.workshop.distillation["distillation"].alpha == 0.9
    assert bench.base != open_workbench(tiny_run.model, recipe, tiny_trainer).base


@pytest.fixture(scope="module")
def stage(tiny_run, tiny_trainer, recipe, tmp_path_factory):
    """The directory that a pruned model is kept in."""
    directory = tmp_path_factory.mktemp("stages")
    open_workbench(tiny_run.model, recipe, tiny_trainer, directory).make(read_chain([PRUNE]))
    (stage,) = directory.iterdir()
    return stage


@pytest.mark.parametrize("damage", ["no file", "no JSON", "no storage", "no network"])
def test_a_damaged_stage_is_named(stage, tmp_path, damage):
    directory = shutil.copytree(stage, tmp_path / stage.name)
    read_form(directory)
    facts = directory / "form.json"
    if damage == "no file":
        facts.unlink()
    elif damage == "no JSON":
        facts.write_text("{")
    elif damage == "no storage":
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "storage": {"kind": "int8"}}))
    else:
        (directory / "model.h5").write_bytes(b"?")
    with pytest.raises(BmpError, match=r"holds no model that can be read .*; remove it and start again") as caught:
        read_form(directory)
    assert str(directory) in str(caught.value)


def test_a_model_with_quantizers_is_kept_for_this_call_alone(open_bench, tmp_path):
    bench, chain = open_bench(tmp_path / "stages", epochs=1), read_chain(["qat"])
    form = bench.make(chain).form
    assert isinstance(form, Form) and form.storage.is_trained
    assert bench.make(chain).form is form
    assert not (tmp_path / "stages").exists()
