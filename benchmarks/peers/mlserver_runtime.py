"""MLServer: a custom runtime, as its guide says. `mlserver start DIRECTORY` with the two files of settings in it."""

from litert_network import Network
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Predict(MLModel):
    """Runs the network."""

    async def load(self) -> bool:
        """Loads it, once a process."""
        self.network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Returns an answer for each example."""
        answer = self.network.run(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("prediction", answer)
        return InferenceResponse(model_name=self.name, outputs=[output])
