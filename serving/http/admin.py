"""What operators and orchestrators ask: is it alive, is it ready, what does it serve."""

from dataclasses import asdict
from typing import Any

import orjson
from flask import Blueprint, Response

from serving.models.model import LoadedModel
from serving.models.versions import UNLOADED
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
        described = [_describe(service, model) for model in service.models()]
        return _json({"models": described, "unloaded": _list_unloaded(service), "failed": service.failures()})

    return door


def _describe(service: Service, model: LoadedModel) -> dict[str, Any]:
    """Returns the default version, and how every version is doing."""
    return {**model.describe(), "versions": [asdict(version) for version in service.versions(model.name)]}


def _list_unloaded(service: Service) -> dict[str, list[dict[str, Any]]]:
    """Returns the versions of the models that answer nothing at present, because they are not in memory."""
    loaded = {model.name for model in service.models()}
    versions = {name: service.versions(name) for name in service.names() if name not in loaded}
    return {
        name: [asdict(each) for each in states]
        for name, states in versions.items()
        if any(each.error == UNLOADED for each in states)
    }


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), mimetype="application/json")
