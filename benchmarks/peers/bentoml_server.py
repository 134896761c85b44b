"""BentoML: a service with a worker for each core. `bentoml serve bentoml_server:Predict`."""

import os

import bentoml
import numpy as np
from litert_network import Network


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Predict:
    """Runs the network."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api
    async def predict(self, x_test: np.ndarray) -> dict:
        """Returns an answer for each example."""
        return {"prediction": self.network.run(x_test.astype(np.float32)).tolist()}
