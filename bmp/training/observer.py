"""What every callback of bmp is: one that takes the figures of a step as they are."""

import tf_keras as keras


class Observer(keras.callbacks.Callback):
    """A Keras callback that is given tensors, not numbers, after a step.

    For others Keras waits for the device after every step, to convert figures that few of them look at; and with
    parameter servers it refuses them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True
