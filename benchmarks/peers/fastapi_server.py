"""FastAPI, as its tutorial says: pydantic models in and out. `uvicorn fastapi_server:app --workers 2`.

The handler is a coroutine: the network answers in microseconds, less than a thread of the pool costs.
"""

import numpy as np
from fastapi import FastAPI
from litert_network import Network
from pydantic import BaseModel

app = FastAPI()
network = Network()


class Question(BaseModel):
    """A batch of examples."""

    x_test: list[list[float]]


class Answer(BaseModel):
    """An answer for each."""

    prediction: list[list[float]]


@app.post("/predict")
async def predict(question: Question) -> Answer:
    """Runs the network."""
    return Answer(prediction=network.run(np.array(question.x_test, np.float32)).tolist())


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Tells that the network is loaded."""
    return {"ready": True}
