"""A gunicorn worker that reads whole requests on one event loop and only then calls the application.

Use it as `worker_class = "serving.worker.BufferedWorker"`. With `threads = 1` the application runs on the loop
itself, without any hand-over; with more, it runs on that many threads.

An application that loads something in the background may have a method `is_started() -> bool`: until it says yes,
new connections are left to workers whose application has started, if there are any.

An application that is faster when it sees several requests at once may have a `fast_path` (`exchange.FastPath`). With
`threads = 1` it is offered each request first. What it takes waits until everything that has arrived has been read, and
is then run; what arrives meanwhile is its next batch. A request whose client has hung up is taken back before it runs.

    framing       where a request ends: strict, against request smuggling
    head          what stands before its body, read once for all that have the same
    exchange      one request and the application's answer
    connection    one client's socket
    loop          all of them, and gunicorn's life cycle
    allocator     how memory is kept for the next request
"""

from serving.worker.loop import BufferedWorker

__all__ = ["BufferedWorker"]
