"""Every hostile thing by its main way in; `make soak` plays each by all of them, in a process of its own."""

import pickle
import shutil

import numpy as np
import pytest

from bmp.artifact.samples import SAMPLES_FILE
from tests.artifact.guard.litert_by_hand import make_model, pack
from tests.hostile import archives, h5_files, journals, keras_files, saved_models, weight_files
from tests.hostile.artifact import lay_out, seal
from tests.hostile.case import Case, Place
from tests.hostile.corpus import CASES
from tests.hostile.ways import MAIN, WAYS, find_fault, list_ways, play

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture(scope="module", autouse=True)
def _tidy():
    yield
    saved_models.remove_plain()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_refused_and_does_no_harm(case, tmp_path):
    trouble, _ = play(case, MAIN[case.kind], tmp_path / "place")
    assert not trouble


def test_there_are_enough_of_them_and_each_can_come_in():
    assert len(CASES) >= 60 and len({str(case) for case in CASES}) == len(CASES)
    assert all(MAIN[case.kind] in list_ways(case) for case in CASES)
    assert {kind for way in WAYS.values() for kind in way.kinds} == {case.kind for case in CASES}


# === What is sound is let in: nothing is refused for what it is made from ===


def _write_litert(place):
    (place.inside / "model.tflite").write_bytes(pack(make_model()))
    return place.inside / "model.tflite"


def _write_samples(place):
    artifact = seal(lay_out(place.inside / "artifact"))
    assert (artifact / SAMPLES_FILE).is_file()
    return artifact


SOUND = {
    "h5": lambda place: h5_files.write(place.inside / "model.h5"),
    "keras": lambda place: keras_files.write(place.inside / "model.keras", keras_files.make_members()),
    "saved_model": lambda place: shutil.copytree(saved_models._save_plain(), place.inside / "model"),
    "litert": _write_litert,
    "samples": _write_samples,
    "artifact": _write_samples,
    "tar": lambda place: archives.carry(_write_samples(place), place.inside / "version.tar"),
    "journal": journals.make_registry,
}


@pytest.mark.parametrize("kind", SOUND)
def test_what_they_are_made_from_is_let_in(kind, tmp_path):
    trouble, said = play(Case(kind, "sound", SOUND[kind]), MAIN[kind], tmp_path / "place")
    assert (trouble, said) == ("it was let in", "")


# === They do harm where nobody looks, or there would be nothing to refuse ===


def find(name, kind):
    return next(case for case in CASES if (case.name, case.kind) == (name, kind))


def test_a_pickle_runs_code(tmp_path):
    place = Place(tmp_path / "place")
    pickle.loads(find("a plain pickle", "pickle").build(place).read_bytes()).close()
    assert place.canary.exists()


def test_so_do_pickled_samples(tmp_path):
    place = Place(tmp_path / "place")
    with np.load(find("pickled samples", "samples").build(place) / SAMPLES_FILE, allow_pickle=True) as arrays:
        arrays["input.x"][0].close()
    assert place.canary.exists()


def test_so_does_a_lambda_once_keras_has_loaded_it(tmp_path):
    import tf_keras as keras

    place = Place(tmp_path / "place")
    keras.models.load_model(find("a Lambda", "h5").build(place))
    assert place.canary.exists()


def test_so_does_a_graph_that_is_asked(tmp_path):
    import tensorflow as tf

    place = Place(tmp_path / "place")
    loaded = tf.saved_model.load(str(find("a file that is written", "saved_model").build(place)))
    loaded.signatures["serving_default"](x=tf.zeros((1, 4)))
    assert place.canary.exists()


def test_harm_is_seen(tmp_path, monkeypatch):
    def open_blindly(path, place):
        pickle.loads(path.read_bytes()).close()

    monkeypatch.setitem(WAYS, "blindly", WAYS["convert"].__class__(open_blindly, ("pickle",)))
    assert play(find("a plain pickle", "pickle"), "blindly", tmp_path / "place")[0] == "code has run"


@pytest.mark.parametrize(
    "message", ["no", "Traceback (most recent call last): it went wrong", "It is in /tmp/bmp-import-x/y."]
)
def test_a_sentence_that_is_none_is_seen(message):
    assert find_fault(message)


def test_skops_and_safetensors_that_are_sound_are_read(tmp_path):
    path = weight_files.write_safetensors(
        tmp_path / "m.safetensors", {"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}
    )
    from safetensors.numpy import load_file

    assert load_file(path)["w"].shape == (4, 4)
