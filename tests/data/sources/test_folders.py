import io

import numpy as np
import PIL.Image
import pytest
import soundfile

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.data.scan import scan_source
from bmp.errors import ConfigError, DataError


def make_png(number: int, size=(6, 5), form="PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def make_wav(number: int, count=200, form="WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(number).uniform(-0.5, 0.5, count), 8000, format=form)
    return file.getvalue()


@pytest.fixture
def put(tmp_path):
    def put(path: str, data: bytes) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)

    return put


def open_images(folder):
    return SOURCES.bind("image_folder", {"path": str(folder)})()


def open_sounds(folder, **arguments):
    return SOURCES.bind("audio_folder", {"path": str(folder), **arguments})()


def places(source, folder):
    return [source.where(number).replace(f"{folder}/", "") for number in range(len(source))]


def bad(source, folder):
    return [str(found).replace(f"{folder}/", "") for found in scan_source(source).bad]


def test_classes_are_folders_in_the_order_of_their_numbers(put, tmp_path):
    for name in ("10", "9", "2"):
        put(f"{name}/a.png", make_png(int(name)))
    source = open_images(tmp_path)
    assert source.target.labels == ("2", "9", "10")
    labels = {
        place: source.target.labels[source.read_targets(np.array([n]))[0]]
        for n, place in enumerate(places(source, tmp_path))
    }
    assert labels == {"10/a.png": "10", "2/a.png": "2", "9/a.png": "9"}


def test_hidden_files_and_what_stands_beside_the_classes_is_passed_over(put, tmp_path):
    for path in ("a/1.png", "a/sub/2.PNG", "b/3.jpeg", "b/4.JPG"):
        put(path, make_png(len(path)))
    for path in (".git/x.png", "a/.DS_Store", "README.md", "labels.csv", "a/.hidden/5.png"):
        put(path, b"")
    assert places(open_images(tmp_path), tmp_path) == ["a/1.png", "a/sub/2.PNG", "b/3.jpeg", "b/4.JPG"]


def test_folders_named_train_and_test_are_splits(put, tmp_path):
    for split, count in (("train", 30), ("test", 6)):
        for number in range(count):
            put(f"{split}/{'ab'[number % 2]}/{number}.png", make_png(number + count))
    config = DataConfig(source="x", transforms=[{"kind": "image", "field": "image", "height": 4, "width": 4}])
    data = load_data(lambda: open_images(tmp_path), config, 0)
    assert (len(data.test), len(data.train) + len(data.validation)) == (6, 30)


def test_a_link_that_goes_in_a_circle_comes_to_an_end(put, tmp_path):
    put("a/1.png", make_png(1))
    put("b/2.png", make_png(2))
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    found = places(open_images(tmp_path), tmp_path)
    assert len(found) < 20 and {"a/1.png", "b/2.png"} <= set(found)


def test_bad_files_are_named(put, tmp_path):
    for number in range(4):
        put(f"a/{number}.png", make_png(number))
    whole = make_png(9, (60, 50), "JPEG")
    put("a/cut.jpg", whole[: len(whole) // 2])
    put("a/cut.png", make_png(8, (60, 50))[:-40])
    put("a/empty.png", b"")
    put("a/notes.txt", b"hello")
    put("a/text.png", b"this is no image")
    put("b/gif.png", make_png(3, form="GIF"))
    put("loose.png", make_png(7))
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    found = dict(line.split(": ", 1) for line in bad(open_images(tmp_path), tmp_path))
    assert set(found) == {
        "a/cut.jpg", "a/cut.png", "a/empty.png", "a/notes.txt", "a/text.png", "b/gif.png", "b/gone.png", "loose.png",
    }  # fmt: skip
    assert "no PNG or JPEG image by its name" in found["a/notes.txt"]
    assert found["loose.png"] == "it stands in no class folder"
    assert "No such file" in found["b/gone.png"]


def test_a_bad_image_stops_or_is_skipped(put, tmp_path):
    for number in range(40):
        put(f"{'ab'[number % 2]}/{number:02}.png", make_png(number))
    put("a/04.png", make_png(4)[:30])
    config = {"source": "x", "transforms": [{"kind": "image", "field": "image", "height": 4, "width": 4}]}
    with pytest.raises(DataError, match=r"hold one that cannot be used: .*a/04\.png: "):
        load_data(lambda: open_images(tmp_path), DataConfig(**config), 0)
    data = load_data(
        lambda: open_images(tmp_path), DataConfig(**config, on_bad_example="skip", max_bad_fraction=0.1), 0
    )
    assert len(data.report.bad) == 1 and len(data.train) + len(data.validation) + len(data.test) == 39
    with pytest.raises(DataError, match=r"more than data\.max_bad_fraction"):
        load_data(lambda: open_images(tmp_path), DataConfig(**config, on_bad_example="skip"), 0)


def test_equal_images_stand_in_one_split(put, tmp_path):
    for number in range(40):
        put(f"{'ab'[number % 2]}/{number:02}.png", make_png(number // 4 * 4 + number % 2))
    config = DataConfig(
        source="x", transforms=[{"kind": "image", "field": "image", "height": 4, "width": 4}], stratify=False
    )
    data = load_data(lambda: open_images(tmp_path), config, 0)
    contents = [set(split.source.read(split.index)["image"]) for split in (data.train, data.validation, data.test)]
    assert data.report.duplicates == 20
    assert not (contents[0] & contents[1] or contents[0] & contents[2] or contents[1] & contents[2])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "holds no folder; expected one for each class"),
        (["1.png"], "holds no folder"),
        (["a/1.png", "b/"], "b holds no PNG or JPEG image"),
        (["train/a/1.png", "val/a/1.png"], "'train' and 'val'; expected"),
        (["a/1.txt"], "None of the 1 files has a label"),
    ],
)
def test_folders_that_are_none_are_told(put, tmp_path, paths, message):
    for path in paths:
        if path.endswith("/"):
            (tmp_path / path).mkdir()
        else:
            put(path, make_png(1))
    with pytest.raises(DataError, match=message):
        open_images(tmp_path)


def test_a_missing_folder_is_told():
    with pytest.raises(DataError, match="There is no folder nowhere"):
        open_images("nowhere")


# --- sounds ---


def test_the_label_may_stand_in_the_name(put, tmp_path):
    for number, name in enumerate(("7_jack_0.wav", "10_jill_1.wav", "x/7_jill_2.WAV")):
        put(name, make_wav(number))
    source = open_sounds(tmp_path, label="file_name", pattern=r"^(\d+)_")
    assert source.target.labels == ("7", "10")
    assert source.read_targets(np.arange(3)).tolist() == [1, 0, 0]


def test_bad_sounds_are_named(put, tmp_path):
    put("a/good.wav", make_wav(1))
    put("a/cut.wav", make_wav(2)[:150])
    put("a/empty.wav", make_wav(3, 0))
    put("a/flac.wav", make_wav(4, form="FLAC"))
    put("a/text.wav", b"no sound at all")
    put("a/song.mp3", b"")
    assert [line.split(":")[0] for line in bad(open_sounds(tmp_path), tmp_path)] == [
        "a/cut.wav", "a/empty.wav", "a/flac.wav", "a/song.mp3", "a/text.wav",
    ]  # fmt: skip


def test_a_name_without_a_label_is_bad(put, tmp_path):
    put("1_a.wav", make_wav(1))
    put("none.wav", make_wav(2))
    source = open_sounds(tmp_path, label="file_name", pattern=r"^(\d+)_")
    assert bad(source, tmp_path) == ["none.wav: its name does not fit the pattern '^(\\\\d+)_'"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "file_name"}, r"args\.pattern says where the label stands"),
        ({"label": "file_name", "pattern": "("}, "no regular expression"),
        ({"label": "file_name", "pattern": "a"}, "has 0 groups"),
        ({"pattern": "(a)"}, "say label: file_name"),
        ({"label": "name"}, "'label' is 'name'"),
    ],
)
def test_patterns_that_are_none_are_told(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        open_sounds(tmp_path, **arguments)
