"""The Flask app, for any WSGI server; ours is `gunicorn -c serving/gunicorn.conf.py`, which `bmp serve` runs."""

import logging
import os
from dataclasses import replace

from flask import Flask, request
from flask.typing import ResponseReturnValue

from bmp.registry import Registry
from serving import deadline
from serving.batching import Policy
from serving.fast import FastPath
from serving.http.admin import build_admin_door
from serving.http.docs import build_docs_door
from serving.http.errors import install_error_handlers
from serving.http.inference_v2 import build_inference_door
from serving.http.metrics import build_metrics_door, install_meter
from serving.http.predict import build_predict_door
from serving.http.tfserving import build_tfserving_door
from serving.metrics import meters
from serving.models.terms import Terms
from serving.service import Service
from serving.settings import Settings


class ServingApp(Flask):
    """The app, and the service behind its doors.

    Args:
        service: Has the models.
        max_body_bytes: What the body of a request may have.
    """

    def __init__(self, service: Service, max_body_bytes: int) -> None:
        super().__init__("bmp", static_folder=None)
        self.service = service
        self.fast_path = FastPath(service, max_body_bytes)

    def is_started(self) -> bool:
        """Tells the worker whether requests may come; while they may not, other workers get them."""
        return self.service.is_started()

    def dispatch_request(self) -> ResponseReturnValue:
        """Answers a request, within the time that it allows; what a header says wrong is the door's to answer."""
        with deadline.within(deadline.read_timeout(request.headers.get(deadline.HEADER))):
            return super().dispatch_request()


def create_app(settings: Settings | None = None) -> ServingApp:
    """Returns the app; its models start loading in the background at once.

    Args:
        settings: By default those of the environment.

    Raises:
        ConfigError: A BMP_* variable cannot be used.
    """
    settings = settings or Settings.from_environ(os.environ)
    logging.getLogger("serving").setLevel(settings.log_level.upper())
    service = Service(
        Registry(settings.registry),
        settings.models,
        settings.read_keys(),
        terms=Terms.of(settings),
        reload=settings.reload,
        batching=replace(Policy.of(settings), observe=meters.record_run, observe_queue=meters.record_queue),
    )
    app = ServingApp(service, settings.max_body_bytes)
    install_meter(app)
    app.register_blueprint(build_predict_door(service, settings.max_body_bytes))
    app.register_blueprint(build_tfserving_door(service, settings.max_body_bytes))
    app.register_blueprint(build_inference_door(service, settings.max_body_bytes))
    app.register_blueprint(build_admin_door(service))
    app.register_blueprint(build_metrics_door())
    app.register_blueprint(build_docs_door(service, settings.grpc_port))
    install_error_handlers(app)
    service.start()
    return app
