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
        path: That it takes.
        door: By which it came.
        environ: Of the request.
        max_body_bytes: What its body may have.

    Attributes:
        reply: The answer; None as long as it waits.
    """

    def __init__(self, path: FastPath, door: Door, environ: dict[str, Any], max_body_bytes: int) -> None:
        super().__init__(environ, max_body_bytes)
        self.reply: Reply | None = None
        self._path = path
        self._door = door
        self._started = monotonic()

    def use(self, model: LoadedModel) -> LoadedModel:
        """Says which model the call is for, before its body is looked at.

        Raises:
            OverloadError: Too many examples wait for it already.
        """
        self.model = model
        self._path.check_room(model)
        return model

    @property
    def chosen(self) -> LoadedModel:
        """Which model the call is for."""
        assert self.model is not None, "what waits has a model"
        return self.model

    def begin(self) -> Work | None:
        """Reads the call and returns what is to be run, or None where it is answered already."""
        try:
            timeout_s = read_timeout(self.environ.get("HTTP_X_REQUEST_TIMEOUT"))
            self._question, self._encode = self._door.read(self)
            model, inputs = self._question[:2]
            model.check(inputs)
            self.work = Work(inputs, None if timeout_s is None else self._started + timeout_s)
            self._path.check_room(model, self.work.count)
        except Exception as error:
            self._fail(error)
            return None
        return self.work

    def finish(self) -> None:
        """Writes the answer, now that it has been run."""
        try:
            self.reply = self._encode(self._question.conclude(self.work.result()))
            self._record(meters.OK)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        problem = explain(error, f"POST {self.environ['PATH_INFO']}")
        self.reply = self._door.write(problem)
        self._record(problem.code)

    def _record(self, outcome: str) -> None:
        meters.record(self._door.name, outcome, monotonic() - self._started, self.model)


class FastPath:
    """Takes the calls of the hot routes, and answers them when the worker has seen what else has come.

    Args:
        service: Has the models.
        max_body_bytes: What a body may have.
    """

    def __init__(self, service: Service, max_body_bytes: int) -> None:
        self._service = service
        self._max_body_bytes = max_body_bytes
        self._lines = Lines[Prediction]()
        self._predict = Door("predict", partial(read_predict, service), write_error)

    def begin(self, environ: dict[str, Any]) -> Prediction | None:
        """Takes a request; None leaves it to the application.

        Returns:
            It may have its reply at once; else it gets it in a later `run`.
        """
        door = self._find_door(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if door is None:
            return None
        prediction = Prediction(self, door, environ, self._max_body_bytes)
        work = prediction.begin()
        if work is not None:
            self._lines.add(prediction.chosen, prediction)
        return prediction

    def run(self) -> list[Prediction]:
        """Runs those who have waited longest for the model whose turn it is; returns them with their replies."""
        model, taken = self._lines.take()
        run_together(model, [prediction.work for prediction in taken])
        for prediction in taken:
            prediction.finish()
        return taken

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
