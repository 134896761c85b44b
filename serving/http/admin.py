"""What operators and orchestrators ask: is it alive, is it ready, what does it serve."""

from typing import Any

import orjson
from flask import Blueprint, Response

from serving.service import Service


def build_admin_door(service: Service) -> Blueprint:
    """Returns the blueprint of `GET /health`, `/ready` and `/models`."""
    door = Blueprint("admin", __name__)

    @door.get("/health")
    def health() -> Response:
        return _json({"alive": True})

    @door.get("/ready")
    def ready() -> Response:
        service.check_ready()
        return _json({"ready": True, "models": [f"{model.name}/{model.version}" for model in service.models()]})

    @door.get("/models")
    def models() -> Response:
        return _json({"models": [model.describe() for model in service.models()], "failed": service.failures()})

    return door


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), mimetype="application/json")
