"""The fast path: predictions that our worker hands over as they come and answers by itself, many at once.

It reads and writes with the functions of the doors, so that a request is answered the same whichever way it came in.
What it does not take, Flask does. It belongs to one thread and never waits: what came in while a batch was running is
the next batch, so nothing is held back for company, and there is no timer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from serving.answer import Question
from serving.batching import Lines, Work, run_together
from serving.deadline import read_timeout
from serving.http.body import check_length
from serving.http.call import Call, Encode
from serving.http.errors import Write, explain, write_error, write_plain_error
from serving.http.inference_v2 import find_infer, read_infer
from serving.http.predict import read_predict
from serving.http.reply import Reply
from serving.http.tfserving import find_predict
from serving.http.tfserving import read_predict as read_v1_predict
from serving.metrics import meters
from serving.models.model import LoadedModel
from serving.service import Service

_V1, _V2 = "/v1/models/", "/v2/models/"


class Door(NamedTuple):
    """A way in, as Flask's blueprint of this name is one.

    Args:
        name: Under which it is counted.
        read: Reads a call.
        write: Writes what is wrong with one.
    """

    name: str
    read: Callable[[Call], tuple[Question, Encode]]
    write: Write


class Prediction(Call):
    """A call on its way through the fast path.

    Args:
        route: That it takes.
        body: Of the request.

    Attributes:
        reply: The answer; None as long as it waits.
        work: What is to be run.
        outcome: As `meters` calls it, once there is a reply.
        started: By `time.monotonic()`.
    """

    __slots__ = ("_body", "_encode", "_question", "outcome", "reply", "route", "started", "work")

    work: Work

    def __init__(self, route: Route, body: bytes) -> None:
        super().__init__(route.environ, route.path.max_body_bytes)
        self.reply: Reply | None = None
        self.route = route
        self.outcome = meters.OK
        self.started = monotonic()
        self._body = body

    def read_body(self) -> bytes:
        """Returns the body.

        Raises:
            HttpError: It is too long.
        """
        return check_length(self._body, self.max_body_bytes, len(self._body))

    def use(self, model: LoadedModel) -> LoadedModel:
        """Says which model the call is for, before its body is looked at.

        Raises:
            OverloadError: Too many examples wait for it already.
        """
        self.model = model
        self.route.path.check_room(model)
        return model

    @property
    def chosen(self) -> LoadedModel:
        """Which model the call is for."""
        assert self.model is not None, "what waits has a model"
        return self.model

    def begin(self) -> bool:
        """Reads the call; tells whether there is something to be run, or it is answered already."""
        try:
            timeout_s = read_timeout(self.environ.get("HTTP_X_REQUEST_TIMEOUT"))
            self._question, self._encode = self.route.door.read(self)
            self._body = b""
            model, inputs = self._question[:2]
            model.check(inputs)
            self.work = Work(inputs, None if timeout_s is None else self.started + timeout_s)
            if self.work.count > 1:  # `use` has asked for one
                self.route.path.check_room(model, self.work.count)
        except Exception as error:
            self._fail(error)
            return False
        return True

    def finish(self) -> None:
        """Writes the answer, now that it has been run."""
        try:
            self.reply = self._encode(self._question.conclude(self.work.result()))
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        problem = explain(error, f"POST {self.environ['PATH_INFO']}")
        self.reply = self.route.door.write(problem)
        self.outcome = problem.code


class Route:
    """How the requests that have the same head are answered.

    Args:
        path: That they take.
        door: By which they come.
        environ: What the head says.
    """

    def __init__(self, path: FastPath, door: Door, environ: dict[str, Any]) -> None:
        self.path = path
        self.door = door
        self.environ = environ

    def begin(self, body: bytes) -> Prediction:
        """Takes a request. It may have its reply at once; else it gets it in a later `FastPath.run`."""
        prediction = Prediction(self, body)
        if prediction.begin():
            self.path.add(prediction)
        else:
            _record([prediction])
        return prediction


class FastPath:
    """Takes the calls of the hot routes, and answers them when the worker has seen what else has come.

    Args:
        service: Has the models.
        max_body_bytes: What a body may have.
    """

    def __init__(self, service: Service, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._service = service
        self._lines = Lines[Prediction]()
        self._predict = Door("predict", partial(read_predict, service), write_error)

    def find(self, environ: dict[str, Any]) -> Route | None:
        """Returns how requests with a head are answered; None leaves them to the application.

        Args:
            environ: What the head says, as WSGI has it; it is kept, and changed by nobody.
        """
        door = self._find_door(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        return None if door is None else Route(self, door, environ)

    def add(self, prediction: Prediction) -> None:
        """Has a call wait for its turn."""
        self._lines.add(prediction.chosen, prediction)

    def run(self) -> list[Prediction]:
        """Runs those who have waited longest for the model whose turn it is; returns them with their replies."""
        model, taken = self._lines.take()
        run_together(model, [prediction.work for prediction in taken])
        for prediction in taken:
            prediction.finish()
        _record(taken)
        return taken

    def settle(self) -> None:
        """Writes down what was counted."""
        meters.write()

    def drop(self, prediction: Prediction) -> None:
        """Lets go of a call that waits: nobody is there for the answer."""
        self._lines.remove(prediction.chosen, prediction)

    def check_room(self, model: LoadedModel, count: int = 1) -> None:
        """Checks whether so many more examples may wait for a model; one request may always, however many it has.

        Raises:
            OverloadError: They may not.
        """
        self._lines.check_room(model, count)

    def _find_door(self, path: str) -> Door | None:
        """Returns the door that Flask would find; whatever is unusual in a path is Flask's to judge."""
        if path == "/predict":
            return self._predict
        if path.startswith(_V2) and path.isascii():
            asked = find_infer(path)
            return asked and Door("inference_v2", partial(read_infer, self._service, *asked), write_plain_error)
        if path.startswith(_V1) and path.isascii():
            target = find_predict(path.removeprefix(_V1))
            return target and Door("tfserving", partial(read_v1_predict, self._service, target), write_plain_error)
        return None


def _record(predictions: list[Prediction]) -> None:
    """Counts calls that were answered, those of a kind together."""
    now, seconds = monotonic(), dict[tuple[str, str, LoadedModel | None], list[float]]()
    for each in predictions:
        key = (each.route.door.name, each.outcome, each.model)
        seconds.setdefault(key, []).append(now - each.started)
    for (door, outcome, model), durations in seconds.items():
        meters.record_all(door, outcome, durations, model)
