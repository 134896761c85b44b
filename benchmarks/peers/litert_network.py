"""The LiteRT file that every peer runs, as each of them would run it by hand."""

import os

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Network:
    """One interpreter of one thread: a process has one, and the cores are shared by the processes."""

    def __init__(self) -> None:
        self._interpreter = Interpreter(os.environ["PEER_MODEL"], num_threads=1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shape: tuple[int, ...] = ()

    def run(self, array: np.ndarray) -> np.ndarray:
        """Returns what the network answers to a batch, `(B, *shape)`."""
        if array.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, array.shape)
            self._interpreter.allocate_tensors()
            self._shape = array.shape
        self._interpreter.set_tensor(self._input, array)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)
