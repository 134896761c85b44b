"""`GET /metrics`, and the hooks by which every request that Flask answers is counted."""

from time import perf_counter

from flask import Blueprint, Flask, Response, g, request

from serving.metrics import meters
from serving.metrics.scrape import write_metrics
from serving.metrics.shared_counts import check_directory
from serving.models.model import LoadedModel


def build_metrics_door() -> Blueprint:
    """Returns the blueprint of `GET /metrics`, which stands at TensorFlow Serving's path as well."""
    door = Blueprint("metrics", __name__)

    @door.get("/metrics")
    @door.get("/monitoring/prometheus/metrics")
    def scrape() -> Response:
        content, content_type = write_metrics(request.headers.get("Accept", ""))
        return Response(content, content_type=content_type)

    return door


def install_meter(app: Flask) -> None:
    """Has every request counted under the name of its door; before any other hook is installed."""
    check_directory()

    @app.before_request
    def start() -> None:
        g.started_s = perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        meters.record(
            request.blueprint or "none",
            g.get("outcome", meters.OK),
            perf_counter() - g.started_s,
            g.get("model"),
        )
        return response


def note_model(model: LoadedModel) -> LoadedModel:
    """Returns the model, and remembers that the current request is for it."""
    g.model = model
    return model


def note_outcome(code: str) -> None:
    """Remembers the code of the error that the current request is answered with."""
    g.outcome = code
