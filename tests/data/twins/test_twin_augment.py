import numpy as np
import pytest
import tensorflow as tf
from twin_tools import Twin

from bmp.data.twins import augments, mix_up, mixup_alpha, run_twins
from bmp.errors import ConfigError
from bmp.transforms import Field, Preprocessing, build_steps

RANDOM = np.random.default_rng(0)
FIELDS = (Field("image", "tensor", "float32", (8, 6, 3)),)
IMAGES = RANDOM.random((40, 8, 6, 3), np.float32) + 1
SEEDS = RANDOM.integers(-(2**31), 2**31, (40, 2)).astype(np.int32)


def build(**settings):
    step = {"kind": "augment", "field": "image", **settings}
    return Preprocessing(FIELDS, build_steps([step], FIELDS))


def vary(images=IMAGES, seeds=SEEDS, **settings):
    return Twin(build(**settings)).run({"image": images}, seeds)["image"]


EVERYTHING = {"flip_horizontal": True, "flip_vertical": True, "crop": 2, "noise": 0.1}


def test_what_becomes_of_an_example_depends_on_its_seed_alone():
    twin = Twin(build(**EVERYTHING))
    whole = twin.run({"image": IMAGES}, SEEDS)["image"]
    order = RANDOM.permutation(40)[:17]
    part = twin.run({"image": IMAGES[order]}, SEEDS[order])["image"]
    np.testing.assert_array_equal(part, whole[order])
    np.testing.assert_array_equal(twin.run({"image": IMAGES}, SEEDS)["image"], whole)
    other = twin.run({"image": IMAGES}, SEEDS + 1)["image"]
    assert (other != whole).reshape(40, -1).any(axis=1).all()


def test_worker_count_changes_nothing():
    preprocessing = build(**EVERYTHING)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, SEEDS)).batch(7)
    one, four = (
        list(
            batches.map(
                lambda images, seeds: run_twins(preprocessing, {"image": images}, seeds)["image"],
                num_parallel_calls=workers,
            )
        )
        for workers in (1, 4)
    )
    for mine, theirs in zip(one, four, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_without_seeds_and_in_serving_nothing_is_varied():
    preprocessing = build(**EVERYTHING, mixup=0.3)
    np.testing.assert_array_equal(Twin(preprocessing).run({"image": IMAGES})["image"], IMAGES)
    np.testing.assert_array_equal(preprocessing.run({"image": IMAGES})["image"], IMAGES)


@pytest.mark.parametrize(("setting", "axis"), [("flip_horizontal", 2), ("flip_vertical", 1)])
def test_flips_turn_about_half_of_the_examples(setting, axis):
    varied = vary(**{setting: True})
    flipped = np.flip(IMAGES, axis)
    is_flipped = (varied == flipped).reshape(40, -1).all(axis=1)
    is_same = (varied == IMAGES).reshape(40, -1).all(axis=1)
    assert (is_flipped | is_same).all()
    assert 8 <= is_flipped.sum() <= 32


def test_a_crop_of_pixels_is_a_window_of_the_padded_image():
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for example, image in enumerate(vary(crop=2)):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(padded[example, top : top + 8, left : left + 6], image)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert {top for top, _ in places} == {left for _, left in places} == set(range(5))


def test_a_crop_of_a_share_is_a_window_stretched():
    images = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (40, 8, 6, 3))
    varied = vary(np.ascontiguousarray(images), crop=0.5)
    assert varied.shape == images.shape
    spans = varied[:, -1, 0, 0] - varied[:, 0, 0, 0]  # 4 of 8 rows, so 3 apart
    np.testing.assert_allclose(spans, 3, atol=1e-5)
    assert set(varied[:, 0, 0, 0].round().astype(int)) == set(range(5))


def test_noise_has_the_deviation_that_was_asked_for():
    noise = vary(noise=0.25) - IMAGES
    assert noise.std() == pytest.approx(0.25, rel=0.05)
    assert abs(noise.mean()) < 0.02
    assert len(np.unique(noise[:, 0, 0, 0])) == 40


def test_two_steps_draw_differently():
    step = {"kind": "augment", "field": "image", "noise": 0.1}
    twice = Preprocessing(FIELDS, build_steps([step, step], FIELDS))
    noise = Twin(twice).run({"image": IMAGES}, SEEDS)["image"] - IMAGES
    once = vary(noise=0.1) - IMAGES
    assert not np.allclose(noise, 2 * once, atol=1e-3)


def test_grey_images_without_channels_and_rows_of_numbers_are_varied():
    fields = (Field("image", "tensor", "float32", (8, 6)), Field("row", "tensor", "float32", (5,)))
    steps = [
        {"kind": "augment", "field": "image", "crop": 1, "flip_vertical": True},
        {"kind": "augment", "field": "row", "noise": 0.1},
    ]
    twin = Twin(Preprocessing(fields, build_steps(steps, fields)))
    varied = twin.run({"image": IMAGES[..., 0], "row": IMAGES[:, 0, :5, 0]}, SEEDS)
    assert varied["image"].shape == (40, 8, 6)
    assert (varied["row"] != IMAGES[:, 0, :5, 0]).all()


def test_whether_training_varies_is_known():
    plain = Preprocessing(FIELDS)
    assert (augments(plain), mixup_alpha(plain)) == (False, 0.0)
    assert (augments(build(noise=0.1)), mixup_alpha(build(noise=0.1))) == (True, 0.0)
    assert (augments(build(mixup=0.4)), mixup_alpha(build(mixup=0.4))) == (True, 0.4)
    two = Preprocessing(FIELDS, build(mixup=0.4).steps + build(mixup=0.2).steps)
    with pytest.raises(ConfigError, match=r"0\.2, 0\.4"):
        mixup_alpha(two)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 8.0])
def test_mixup_blends_neighbours_and_their_targets_alike(alpha):
    targets = RANDOM.integers(0, 5, 40)
    inputs, soft = mix_up({"image": tf.constant(IMAGES)}, tf.constant(targets), 5, alpha, tf.constant(SEEDS))
    image, soft = inputs["image"].numpy(), soft.numpy()
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
    # Recover each share from the image and check the target against it.
    mine, theirs = IMAGES, np.roll(IMAGES, -1, axis=0)
    apart = mine - theirs
    shares = ((image - theirs) * apart).sum(axis=(1, 2, 3)) / (apart**2).sum(axis=(1, 2, 3))
    assert (shares > -1e-4).all() and (shares < 1 + 1e-4).all()
    one_hot = np.eye(5)[targets]
    expected = shares[:, None] * one_hot + (1 - shares[:, None]) * np.roll(one_hot, -1, axis=0)
    np.testing.assert_allclose(soft, expected, atol=1e-4)
    if alpha > 1e-3:
        assert len(np.unique(shares.round(4))) > 10


def test_shares_of_mixup_follow_the_beta_distribution_and_the_seed():
    seeds = RANDOM.integers(-(2**31), 2**31, (400, 2)).astype(np.int32)
    column = tf.constant(np.arange(400) % 2, tf.float32)  # each beside the other: the share can be read off
    targets = tf.constant(np.arange(400) % 2)
    blend = tf.function(lambda seeds: mix_up({"x": column}, targets, 2, 0.5, seeds)[1])
    soft = blend(tf.constant(seeds)).numpy()
    shares = soft[np.arange(400), np.arange(400) % 2]
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(0.125, abs=0.03)  # 1 / (4 (2 alpha + 1))
    np.testing.assert_array_equal(blend(tf.constant(seeds)), soft)


def test_tokens_cannot_be_blended():
    with pytest.raises(ConfigError, match=r"'text' holds int32"):
        mix_up({"text": tf.zeros((2, 3), tf.int32)}, tf.zeros(2, tf.int64), 2, 0.2, tf.zeros((2, 2), tf.int32))
