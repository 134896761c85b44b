"""The layers of PyTorch as its documentation defines them, in float64: what imported weights are compared with.

Reference:
    https://pytorch.org/docs/stable/nn.html: Conv2d, Linear, AvgPool2d, MaxPool2d.
"""

import numpy as np


def convolve(images: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Returns Conv2d without padding: `(N, I, H, W)`, `(O, I, h, w)` and `(O,)` to `(N, O, H - h + 1, W - w + 1)`."""
    windows = np.lib.stride_tricks.sliding_window_view(images, weight.shape[2:], axis=(2, 3))  # (N, I, H', W', h, w)
    return np.einsum("nihwab,oiab->nohw", windows, weight, optimize=True) + bias[:, None, None]


def connect(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Returns Linear: `(N, I)`, `(O, I)` and `(O,)` to `(N, O)`."""
    return features @ weight.T + bias


def pool(images: np.ndarray, kind: str) -> np.ndarray:
    """Returns AvgPool2d(2) or MaxPool2d(2): `(N, C, H, W)` to `(N, C, H // 2, W // 2)`."""
    count, maps, height, width = images.shape
    cut = images[:, :, : height // 2 * 2, : width // 2 * 2]
    blocks = cut.reshape(count, maps, height // 2, 2, width // 2, 2)
    return blocks.max(axis=(3, 5)) if kind == "max" else blocks.mean(axis=(3, 5))


def activate(values: np.ndarray, kind: str) -> np.ndarray:
    """Returns an activation by the name that Keras gives it."""
    from scipy.special import erf, expit, softmax

    functions = {
        "linear": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": expit,
        "tanh": np.tanh,
        "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
        "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
        "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        "swish": lambda x: x * expit(x),
        "softmax": lambda x: softmax(x, axis=-1),
    }
    return np.asarray(functions[kind](values))
