import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from bmp.config import RECIPES_DIR, DistillConfig, Recipe, TrainConfig, list_recipes, load_recipe, write_recipe
from bmp.errors import ConfigError, UnknownNameError
from bmp.names import NAME_PATTERN

MINIMAL = "data: {source: sklearn}\nmodel: {build: mlp}\npublish: {name: tiny}\n"


@pytest.fixture
def written(tmp_path):
    """`written(text)` is the path of a recipe file that holds it."""

    def write(content):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize("name", list_recipes())
def test_a_shipped_recipe_comes_back_as_it_was_written(name, tmp_path):
    recipe = load_recipe(name)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize("name", list_recipes())
def test_a_shipped_recipe_begins_with_its_command(name):
    assert (RECIPES_DIR / f"{name}.yaml").read_text().startswith(f"# python train.py {name} ")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    name=st.from_regex(NAME_PATTERN, fullmatch=True),
    args=st.dictionaries(st.text(), VALUES, max_size=3),
    rate=st.floats(0, 1e300, exclude_min=True),
    chains=st.lists(
        st.lists(st.text() | st.dictionaries(st.text(), st.dictionaries(st.text(), VALUES, max_size=2)), max_size=2)
    ),
)
@example(name="1e5", args={}, rate=1e-3, chains=[])
@example(
    name="x",
    args={"a": "1e-3", "b": "null", "1e3": "yes"},
    rate=1e-300,
    chains=[["1e3", {"prune": {"sparsity": 1e-3}}]],
)
def test_any_recipe_comes_back_as_it_was_written(tmp_path_factory, name, args, rate, chains):
    recipe = Recipe.model_validate(
        {
            "data": {"source": "sklearn", "args": args},
            "model": {"build": "mlp"},
            "train": {"learning_rate": rate},
            "compress": {"chains": chains},
            "publish": {"name": name},
        }
    )
    path = tmp_path_factory.getbasetemp() / "any-recipe.yaml"
    write_recipe(recipe, path)
    assert load_recipe(str(path)) == recipe


def test_spells_out_every_default(written, tmp_path):
    write_recipe(load_recipe(written(MINIMAL)), tmp_path / "resolved.yaml")
    tree = yaml.safe_load((tmp_path / "resolved.yaml").read_text())
    assert set(tree["train"]) == set(TrainConfig.model_fields) and tree["train"]["learning_rate"] == 1e-3
    assert tree["data"]["split"] == {"column": None, "train": 0.70, "validation": 0.15, "test": 0.15}
    assert tree["compress"]["chains"] == [["dynamic"], ["int8"], [{"prune": {"sparsity": 0.8}}, "int8"]]


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.epochs=5", lambda r: r.train.epochs, 5),
        ("seed=0", lambda r: r.seed, 0),
        ("train.learning_rate=1e-2", lambda r: r.train.learning_rate, 0.01),
        ("train.learning_rate=1E+1", lambda r: r.train.learning_rate, 10.0),
        ("train.learning_rate=.5e-1", lambda r: r.train.learning_rate, 0.05),
        ("train.learning_rate=3", lambda r: r.train.learning_rate, 3.0),
        ("data.stratify=false", lambda r: r.data.stratify, False),
        ("compress.chains=[[int8]]", lambda r: r.compress.chains, [["int8"]]),
        ("compress={chains: []}", lambda r: r.compress.chains, []),
        ("compress.max_drop=0.5%", lambda r: r.compress.max_drop, 0.005),
        ("compress.max_drop=2 percent", lambda r: r.compress.max_drop, 0.02),
        ("compress.max_drop=0", lambda r: r.compress.max_drop, 0.0),
        ("compress.class_floor=", lambda r: r.compress.class_floor, None),
        ("compress.distill=true", lambda r: r.compress.distill, DistillConfig()),
        ("compress.distill=false", lambda r: r.compress.distill, None),
        ("compress.distill.alpha=0.9", lambda r: r.compress.distill, DistillConfig(alpha=0.9)),
        ("model.args={hidden: [3, 4]}", lambda r: r.model.args, {"hidden": [3, 4]}),
        ("model.args.dense=[7]", lambda r: r.model.args["dense"], [7]),
        ("publish.root=a=b", lambda r: r.publish.root, "a=b"),
    ],
)
def test_an_override_wins(override, read, value):
    result = read(load_recipe("digits", [override]))
    assert result == value and type(result) is type(value)


def test_the_last_override_of_a_key_wins():
    assert load_recipe("digits", ["train.epochs=5", "train.epochs=6"]).train.epochs == 6


def test_an_override_below_a_null_section_brings_it_into_being():
    recipe = load_recipe("digits", ["compress.distill=null", "compress.distill.temperature=2.0"])
    assert recipe.compress.distill.temperature == 2


def test_an_override_reaches_a_section_the_file_leaves_out(written):
    assert load_recipe(written(MINIMAL), ["train.epochs=2"]).train.epochs == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; train knows epochs, steps, validate_every, optimizer,"),
        ("train.epoch=3", "Did you mean 'epochs'?"),
        ("trian.epochs=3", "unknown key 'trian'; the top level knows seed, data,"),
        ("trian.epochs=3", "Did you mean 'train'?"),
        ("compress.distill.temprature=2.0", "unknown key 'compress.distill.temprature'"),
        ("compress.distill.temprature=2.0", "Did you mean 'temperature'?"),
        ("compress.pruning.sparsity=0.5", "unknown key 'compress.pruning'; compress knows max_drop, metric, chains,"),
        ("data.split.validate=0.5", "Did you mean 'validation'?"),
        ("wholly_other=3", "unknown key 'wholly_other'"),
        ("train.epochs=x", "'train.epochs' is 'x', but input should be a valid integer"),
        ("train.epochs=2.0", "'train.epochs' is 2.0, but input should be a valid integer"),
        ("train.epochs='2'", "'train.epochs' is '2', but input should be a valid integer"),
        ("train.epochs=true", "'train.epochs' is True, but input should be a valid integer"),
        ("train.epochs=0", "'train.epochs' is 0, but input should be greater than or equal to 1"),
        ("train.learning_rate=0", "'train.learning_rate' is 0, but input should be greater than 0"),
        ("train.learning_rate=.nan", "'train.learning_rate' is nan"),
        ("train.learning_rate=.inf", "'train.learning_rate' is inf"),
        ("seed=-1", "'seed' is -1, but input should be greater than or equal to 0"),
        ("seed=4294967296", "'seed' is 4294967296, but input should be less than"),
        ("compress.max_drop=1", "'compress.max_drop' is 1, but input should be less than 1"),
        ("compress.max_drop=100%", "'compress.max_drop' is '100%', but input should be less than 1"),
        ("compress.max_drop=-1", "'compress.max_drop' is -1, but input should be greater than or equal to 0"),
        ("compress.max_drop=half", "'compress.max_drop' is 'half', but input should be a valid number"),
        ("compress.max_drop=1.2.3%", "'compress.max_drop' is '1.2.3%'"),
        ("compress.chains=int8", "'compress.chains' is 'int8', but input should be a valid list"),
        ("compress.chains=[int8]", "'compress.chains.0' is 'int8', but input should be a valid list"),
        ("compress.time=20 epochs", "time is '20 epochs'; it must be of seconds, minutes or hours, such as 20m"),
        ("compress.time=soon", "compress.time"),
        ("compress={time: 5m, max_trials: 0}", "'compress.max_trials' is 0"),
        ("compress.goal=speed", "'compress.goal' is 'speed', but input should be 'size', 'latency' or 'balanced'"),
        ("compress.confidence=0.5", "'compress.confidence' is 0.5"),
        ("compress.accept=failed", "'compress.accept' is 'failed', but input should be 'proven' or 'unproven'"),
        ("data.split.train=0.8", "data.split: train, validation and test add up to 1.1; they must add up to 1"),
        ("data.split={train: 1.0, validation: 0.0, test: 0.0}", "'data.split.train' is 1.0"),
        ("publish.name=A b", "publish.name: 'A b' is no model name"),
        ("publish.name=3", "'publish.name' is 3, but input should be a valid string"),
        ("model.build=", "'model.build' is None"),
        ("data=", "'data' is None"),
        ("train=", "'train' is None"),
        ("data={}", "'data.source' is missing"),
        ("train=3", "'train' is 3"),
        ("model.args={1: 2}", "model.args"),
        ("train.epochs.more=3", "reaches into 'epochs', which is a value, not a section"),
        ("train.epochs", "'train.epochs' is not of the form section.key=value, such as train.epochs=5"),
        ("=3", "is not of the form section.key=value"),
        ("train..epochs=3", "is not of the form section.key=value"),
        ("train.epochs=[", "The value of the override 'train.epochs=[' is not valid YAML"),
        ("model.args={a: 1, a: 2}", "the key 'a' is given twice"),
        ("model.args={[1]: 2}", "is not valid YAML"),
        ("publish.root=!!python/object/apply:os.system [true]", "is not valid YAML"),
    ],
)
def test_says_what_is_wrong_with_an_override(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_recipe("digits", [override])
    assert "\n" not in str(caught.value)


def test_counts_the_mistakes_it_does_not_tell():
    with pytest.raises(ConfigError, match=re.escape("(1 more)")):
        load_recipe("digits", ["train.epochs=x", "seed=-1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MINIMAL + "seed: 1\nseed: 2\n", "the key 'seed' is given twice"),
        (MINIMAL + "train:\n  epochs: 1\n  epochs: 1\n", "the key 'epochs' is given twice"),
        (MINIMAL + "train:\n", "'train' is None"),
        (MINIMAL.replace("name: tiny", ""), "'publish.name' is missing"),
        (MINIMAL.replace("publish:", "pubish:"), "Did you mean 'publish'?"),
        (MINIMAL.replace("source:", "sourse:"), "Did you mean 'source'?"),
        ("", "holds no recipe; expected sections such as data:"),
        ("- data\n- model\n", "holds no recipe"),
        ("digits", "holds no recipe"),
        ("data: [", "is not valid YAML"),
        ("data:\n\tsource: x\n", "is not valid YAML"),
        ("? [1]\n: 2\n", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
    ],
)
def test_says_what_is_wrong_with_a_file(written, content, message):
    path = written(content)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_recipe(path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_reads_a_number_without_a_point_before_its_exponent(written):
    assert load_recipe(written(MINIMAL + "train: {learning_rate: 1e-3}\n")).train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("digit", UnknownNameError, "No recipe is named 'digit'. Known: breast_cancer, "),
        ("digit", UnknownNameError, ", or a path to a .yaml file."),
        ("digit", UnknownNameError, "Did you mean 'digits'?"),
        ("", UnknownNameError, "No recipe is named ''"),
        ("../recipes/digits", UnknownNameError, "No recipe is named"),
        ("missing.yaml", ConfigError, "There is no recipe file missing.yaml"),
        ("missing/digits.yml", ConfigError, "There is no recipe file missing/digits.yml"),
    ],
)
def test_says_that_there_is_no_such_recipe(name, error, message):
    with pytest.raises(error, match=re.escape(message)):
        load_recipe(name)


def test_a_function_is_found_beside_the_recipe(written, tmp_path, monkeypatch):
    (tmp_path / "own.py").touch()
    path = written(MINIMAL.replace("mlp", '"own.py:build"') + "")
    assert load_recipe(path).model.build == f"{tmp_path}/own.py:build"
    assert load_recipe(path, ["data.args.function=own.py:load"]).data.args["function"] == f"{tmp_path}/own.py:load"
    assert load_recipe(path, ["model.build=other.py:build"]).model.build == "other.py:build"
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path).model.build == "own.py:build"


@pytest.mark.parametrize("override", ["train.validate_every=5", "train={steps: 7, validate_every: 5}"])
def test_validations_must_divide_the_steps(override):
    with pytest.raises(ConfigError, match="validate_every is 5; it must divide steps, which is"):
        load_recipe("digits", [override])


def test_the_whole_split_may_be_a_batch():
    assert load_recipe("digits", ["data.batch_size=all"]).data.batch_size == "all"


def test_best_weights_and_averaged_ones_are_two_things():
    with pytest.raises(ConfigError, match="keep: best chooses among the weights as they were validated"):
        load_recipe("digits", ["train.keep=best", "train.weight_average=0.9"])
