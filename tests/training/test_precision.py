import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.errors import ConfigError
from bmp.training.precision import Hardware, choose_precision, full_float32, read_hardware, wrap_loss_scale

PLAIN, SHORT = Hardware(), Hardware(None, ("amx_bf16", "avx512_bf16"))
TURING, AMPERE = Hardware((7, 5)), Hardware((8, 0))


def never():
    raise AssertionError("nothing was to be timed")


@pytest.mark.parametrize(
    ("strategy", "hardware", "policy", "reason"),
    [
        ("one_device", TURING, "mixed_float16", "compute capability 7.5 multiply float16"),
        ("parameter_server", TURING, "float32", "which parameter_server cannot train in"),
        ("mirrored", Hardware((6, 1)), "float32", "compute capability 6.1 multiply no short"),
        ("one_device", PLAIN, "float32", "the CPU has no instructions for bfloat16"),
    ],
)
def test_auto_follows_from_the_devices(strategy, hardware, policy, reason):
    found, said = choose_precision("auto", strategy, hardware, measure=never)
    assert found == policy and reason in said


@pytest.mark.parametrize(
    ("speedup", "policy"), [(3.0, "mixed_bfloat16"), (1.2, "mixed_bfloat16"), (1.19, "float32"), (0.4, "float32")]
)
@pytest.mark.parametrize(
    ("hardware", "fact"),
    [(SHORT, "the CPU has amx_bf16 and avx512_bf16"), (AMPERE, "GPUs of compute capability 8.0 multiply bfloat16")],
)
def test_what_has_instructions_for_it_is_timed(hardware, fact, speedup, policy):
    """Small networks train slower in it: on an H100 at 0.8 to 1.5 times the speed of float32, which is TF32 there."""
    found, reason = choose_precision("auto", "one_device", hardware, measure=lambda: speedup)
    assert found == policy
    assert fact in reason and f"{speedup:.1f} times as fast" in reason


def test_where_the_clock_must_not_decide_a_cpu_stays_as_it_is():
    found, reason = choose_precision("auto", "one_device", SHORT, may_time=False, measure=never)
    assert found == "float32" and "set train.precision: mixed_bfloat16" in reason


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker", "parameter_server"])
def test_where_the_clock_must_not_decide_a_gpu_takes_what_it_multiplies_faster(strategy):
    found, reason = choose_precision("auto", strategy, Hardware((9, 0)), may_time=False, measure=never)
    assert found == "mixed_bfloat16" and "compute capability 9.0 multiply bfloat16" in reason


@pytest.mark.parametrize("before", [True, False])
def test_float32_in_full_is_for_a_while(before):
    tf.config.experimental.enable_tensor_float_32_execution(before)
    try:
        with pytest.raises(KeyError), full_float32():
            assert not tf.config.experimental.tensor_float_32_execution_enabled()
            raise KeyError
        assert tf.config.experimental.tensor_float_32_execution_enabled() == before
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.mark.parametrize("hardware", [PLAIN, SHORT, TURING, AMPERE])
@pytest.mark.parametrize("wanted", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_the_recipe_says_is_done_and_doubted_where_it_is_slow(wanted, hardware):
    found, reason = choose_precision(wanted, "mirrored", hardware, measure=never)
    slow = {"mixed_bfloat16": (PLAIN, TURING), "mixed_float16": (PLAIN, SHORT)}
    assert found == wanted and reason.startswith("as the recipe says")
    assert ("slow" in reason) == (hardware in slow.get(wanted, ()))


def test_float16_is_not_for_parameter_servers():
    with pytest.raises(ConfigError, match=r"parameter_server\. Use mixed_bfloat16 or float32"):
        choose_precision("mixed_float16", "parameter_server", TURING, measure=never)


def test_an_unknown_precision_is_told_which_there_are():
    with pytest.raises(ConfigError, match="'bfloat16'; expected auto, float32, mixed_bfloat16, mixed_float16"):
        choose_precision("bfloat16", "mirrored", PLAIN, measure=never)


def test_instructions_are_read_where_linux_lists_them(tmp_path):
    listing = tmp_path / "cpuinfo"
    assert read_hardware(use_gpus=False, cpuinfo=listing) == PLAIN
    listing.write_text("model name\t: A CPU\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", encoding="utf-8")
    assert read_hardware(use_gpus=False, cpuinfo=listing) == Hardware(None, ("avx512_bf16",))
    here = read_hardware()
    assert (here.gpu_capability is None) == (not tf.config.list_physical_devices("GPU"))


def test_only_float16_scales_its_loss():
    for policy in ("float32", "mixed_bfloat16"):
        optimizer = keras.optimizers.SGD(0.1)
        assert wrap_loss_scale(optimizer, policy) is optimizer
    scaled = wrap_loss_scale(keras.optimizers.SGD(0.1), "mixed_float16")
    assert isinstance(scaled, keras.mixed_precision.LossScaleOptimizer)
    weight = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        loss = scaled.get_scaled_loss(2 * weight)
    scaled.apply_gradients([(scaled.get_unscaled_gradients([tape.gradient(loss, weight)])[0], weight)])
    np.testing.assert_allclose(weight, 0.8, rtol=1e-6)
