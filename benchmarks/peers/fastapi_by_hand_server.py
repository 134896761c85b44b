"""FastAPI without what makes it FastAPI: no pydantic, orjson on the bare body. What somebody in a hurry ends up with.

Nothing is checked here: a wrong key or shape is a 500.
"""

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from litert_network import Network

app = FastAPI()
network = Network()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Runs the network."""
    batch = np.array(orjson.loads(await request.body())["x_test"], np.float32)
    answer = orjson.dumps({"prediction": network.run(batch)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Tells that the network is loaded."""
    return {"ready": True}
