"""Weights of PyTorch in networks of the shelf.

The fixtures are what PyTorch 2.13.0 made of its own modules:

    lenet5: conv1 = Conv2d(1, 6, 5, padding=2), conv2 = Conv2d(6, 16, 5), fc1 = Linear(400, 120), fc2 = Linear(120, 84),
            fc3 = Linear(84, 10); after the first four tanh, after conv1 and conv2 avg_pool2d(2) as well; then softmax
    mlp:    Sequential(Flatten(), Linear(48, 16), ReLU(), Linear(16, 12), ReLU(), Linear(12, 3)) of images (3, 4, 4);
            then softmax
    torch.manual_seed(0); save_file(net.state_dict(), "lenet5.safetensors")
    np.savez_compressed("torch_answers.npz", lenet5_x=images[:, 0], lenet5_y=net(images).softmax(1),
                        mlp_x=pixels.permute(0, 2, 3, 1), mlp_y=mlp(pixels).softmax(1))
"""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bmp.artifact.formats import FORMATS
from bmp.errors import BmpError
from bmp.imports.original import Options
from bmp.imports.sources.torch import read_torch_source

FIXTURES = Path(__file__).parent.parent / "fixtures"
LENET5 = Options(network="lenet5", args={"pooling": "average", "activation": "tanh"}, shape=(28, 28))
MLP = Options(network="mlp", shape=(4, 4, 3))
TOLERANCE = 1e-5


@pytest.mark.parametrize(("name", "options"), [("lenet5", LENET5), ("mlp", MLP)], ids=["lenet5", "mlp"])
def test_outputs_are_those_of_pytorch(name, options, tmp_path):
    answers = np.load(FIXTURES / "torch_answers.npz")
    given, expected = {"x": answers[f"{name}_x"]}, answers[f"{name}_y"]
    original = read_torch_source(FIXTURES / f"{name}.safetensors", options)
    assert np.abs(original.run(given)["probabilities"] - expected).max() <= TOLERANCE
    path = tmp_path / "model.tflite"
    original.writers["litert"](original.signature, path)
    found = FORMATS["litert"].load(path, original.signature).run(given)["probabilities"]
    assert np.abs(found - expected).max() <= TOLERANCE
    assert expected.std() > 1e-3  # the answers tell examples and classes apart


def run_both(state, options, tmp_path, shape):
    """Returns what the formulas and the Keras network say of random weights."""
    save_file(state, tmp_path / "w.safetensors")
    original = read_torch_source(tmp_path / "w.safetensors", options)
    given = {"x": np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)}
    (wanted,) = original.run(given).values()
    original.writers["h5"](original.signature, tmp_path / "model.h5")
    (found,) = FORMATS["h5"].load(tmp_path / "model.h5", original.signature).run(given).values()
    return found, wanted


def draw(**shapes):
    random = np.random.default_rng(0)
    return {name.replace("__", "."): random.normal(0, 0.3, size).astype(np.float32) for name, size in shapes.items()}


def test_lenet5_as_published_has_names_of_its_own_and_weights_that_subsample(tmp_path):
    state = draw(
        c1__weight=(6, 1, 5, 5), c1__bias=(6,), s2__weight=(6, 1, 1, 1), s2__bias=(6,), c3__weight=(16, 6, 5, 5),
        c3__bias=(16,), s4__weight=(16,), s4__bias=(16,), c5__weight=(120, 16, 5, 5), c5__bias=(120,),
        f6__weight=(84, 120), f6__bias=(84,), output__weight=(4, 84),
    )  # fmt: skip
    found, wanted = run_both(state, Options(network="lenet5"), tmp_path, (32, 32))
    assert found.shape == (5, 4) and np.abs(found - wanted).max() <= TOLERANCE


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "selu", "gelu", "swish", "linear"])
def test_an_mlp_computes_each_activation_of_the_shelf(activation, tmp_path):
    state = draw(fc2__weight=(8, 6), fc2__bias=(8,), fc10__weight=(1, 8), fc10__bias=(1,))
    options = Options(network="mlp", args={"activation": activation, "scale": 0.5}, objective="regression")
    found, wanted = run_both(state, options, tmp_path, (6,))
    assert np.abs(found - wanted).max() <= (1e-3 if activation == "gelu" else TOLERANCE)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, Options(), "without a network; say which of the shelf they belong to: --network lenet5, mlp"),
        ({}, Options(network="lenet"), "Did you mean 'lenet5'?"),
        ({}, Options(network="lenet5"), "add --set pooling=average or --set pooling=max"),
        ({}, Options(network="lenet5", args={"pooling": "mean"}), "argument 'pooling' is 'mean'"),
        ({}, Options(network="lenet5", args={"pooling": "max", "activation": "relu"}), "computes tanh, not relu"),
        ({"fc3.weight": None}, LENET5, "The state_dict holds 'fc3.bias' (10,)"),
        ({"fc3.weight": None, "fc3.bias": None}, LENET5, "holds 4 modules (conv1, conv2, fc1, fc2); the network has 5"),
        ({"fc1.weight": np.zeros((120, 256), np.float32)}, LENET5, "'fc1.weight' is (120, 256); expected (120, 400)"),
        ({"bn.running_mean": np.zeros(6, np.float32)}, LENET5, "holds 'bn.running_mean' (6,), which no layer"),
        ({"fc3.bias": np.zeros(10, np.int32)}, LENET5, "holds fc3.bias; expected weights of floating point"),
    ],
)  # fmt: skip
def test_weights_that_are_others_are_refused(change, options, said, tmp_path):
    state = load_file(FIXTURES / "lenet5.safetensors") | change
    save_file({name: array for name, array in state.items() if array is not None}, tmp_path / "w.safetensors")
    with pytest.raises(BmpError, match=re.escape(said)):
        read_torch_source(tmp_path / "w.safetensors", options)


def test_one_number_may_mean_two_things(tmp_path):
    save_file(draw(fc__weight=(1, 6)), tmp_path / "w.safetensors")
    with pytest.raises(BmpError, match="--objective binary or --objective regression"):
        read_torch_source(tmp_path / "w.safetensors", Options(network="mlp"))


@pytest.mark.parametrize("keep", [4, 60, -1])
def test_a_damaged_file_is_refused(keep, tmp_path):
    content = (FIXTURES / "mlp.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:keep])
    with pytest.raises(BmpError, match="is no safetensors file that can be read"):
        read_torch_source(tmp_path / "w.safetensors", MLP)
