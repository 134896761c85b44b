"""The Flask app: `gunicorn -c python:serving.gunicorn_conf "serving.app:create_app()"`."""

import logging
import os

from flask import Flask

from bmp.registry import Registry
from serving.http.admin import build_admin_door
from serving.http.errors import install_error_handlers
from serving.http.inference_v2 import build_inference_door
from serving.http.predict import build_predict_door
from serving.http.tfserving import build_tfserving_door
from serving.service import Service
from serving.settings import Settings


class ServingApp(Flask):
    """The app, and the service behind its doors."""

    def __init__(self, service: Service) -> None:
        super().__init__("bmp", static_folder=None)
        self.service = service

    def is_started(self) -> bool:
        """Tells the worker whether requests may come; while they may not, other workers get them."""
        return self.service.is_started()


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
        versions=settings.versions,
        reload=settings.reload,
    )
    app = ServingApp(service)
    app.register_blueprint(build_predict_door(service, settings.max_body_bytes))
    app.register_blueprint(build_tfserving_door(service, settings.max_body_bytes))
    app.register_blueprint(build_inference_door(service, settings.max_body_bytes))
    app.register_blueprint(build_admin_door(service))
    install_error_handlers(app)
    service.start()
    return app
