"""`GET /openapi.json` for programs and `GET /docs` for people."""

import orjson
from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from bmp.errors import NotFoundError
from serving.codec.raw import JSON
from serving.documents.examples import EXAMPLES_PATH, list_examples, make_grpc_example
from serving.documents.look import CONTENT_SECURITY_POLICY
from serving.documents.openapi import describe_api
from serving.documents.page import write_page
from serving.service import Service


def build_docs_door(service: Service, grpc_port: int | None = None) -> Blueprint:
    """Returns the blueprint of the documents; the page loads nothing from elsewhere.

    Args:
        service: What they are about.
        grpc_port: Where the gRPC doors are, if they are open.
    """
    door = Blueprint("docs", __name__)

    @door.get("/")
    def home() -> AnyResponse:
        return redirect("/docs")

    @door.get("/openapi.json")
    def openapi() -> Response:
        return Response(orjson.dumps(describe_api(service)), mimetype=JSON)

    @door.get("/docs")
    def docs() -> Response:
        response = Response(write_page(service, request.host_url.rstrip("/"), grpc_port), mimetype="text/html")
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @door.get(f"{EXAMPLES_PATH}/<name>/<door>.json")
    def example(name: str, door: str) -> Response:
        model = service.describe(name)
        examples = [*list_examples(model, named=service.sole_name() is None), make_grpc_example(model)]
        found = next((example for example in examples if example.door == door), None)
        if found is None:
            known = ", ".join(example.door for example in examples)
            raise NotFoundError(
                f"There is no example '{door[:80]}' of model '{name}'. There is {known}.",
                expected=known,
                received=door[:80],
            )
        return Response(found.dump(), mimetype=JSON)

    return door
