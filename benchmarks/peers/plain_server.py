"""The server people write first: Flask, `load_model`, `model.predict` in the handler. The opponent, not an example."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
from flask import Flask, jsonify, request
from tf_keras.models import load_model

app = Flask(__name__)
model = load_model(os.environ["PLAIN_MODEL"], compile=False)


@app.post("/predict")
def predict():
    x_test = np.array(request.get_json()["x_test"])
    return jsonify({"prediction": model.predict(x_test, verbose=0).tolist()})


@app.get("/ready")
def ready():
    return jsonify({"ready": True})
