"""LitServe: two processes that run the network, two that speak HTTP, its fast queue between them."""

import os

import litserve as ls
import numpy as np
from litert_network import Network


class Predict(ls.LitAPI):
    """The four steps that LitServe asks for."""

    def setup(self, device: str) -> None:
        """Loads the network, once a process."""
        self.network = Network()

    def decode_request(self, request: dict[str, list[list[float]]]) -> np.ndarray:
        """Returns the batch of a request."""
        return np.array(request["x_test"], np.float32)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Runs the network."""
        return self.network.run(batch)

    def encode_response(self, answer: np.ndarray) -> dict[str, list[list[float]]]:
        """Returns what becomes the body."""
        return {"prediction": answer.tolist()}


if __name__ == "__main__":
    workers = int(os.environ["PEER_WORKERS"])
    server = ls.LitServer(Predict(), accelerator="cpu", devices=1, workers_per_device=workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
