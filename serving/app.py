"""The Flask app: `gunicorn -c python:serving.gunicorn_conf "serving.app:create_app()"`."""

import logging
import os

from flask import Flask

from bmp.registry import Registry
from serving.http.admin import build_admin_door
from serving.http.errors import install_error_handlers
from serving.http.predict import build_predict_door
from serving.service import Service
from serving.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Returns the app; its models start loading in the background at once.

    Args:
        settings: By default those of the environment.

    Raises:
        ConfigError: A BMP_* variable cannot be used.
    """
    settings = settings or Settings.from_environ(os.environ)
    logging.getLogger("serving").setLevel(settings.log_level.upper())
    service = Service(Registry(settings.registry), settings.models)
    app = Flask("bmp", static_folder=None)
    app.register_blueprint(build_predict_door(service, settings.max_body_bytes))
    app.register_blueprint(build_admin_door(service))
    install_error_handlers(app)
    service.start()
    return app
