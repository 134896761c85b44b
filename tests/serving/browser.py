"""A real browser without a window, spoken to over a pipe in the Chrome DevTools Protocol."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def find_browser() -> str | None:
    """Returns the path of a browser, if one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page of a browser."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader, self._writer = reader, writer
        self._number, self._session = 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Asks the browser for something and waits for its answer; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        while (reply := self._read()).get("id") != self._number:
            self.events.append(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def open(self, url: str) -> None:
        """Goes to an address and waits until everything is there."""
        start = len(self.events)
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events[start:]):
            self.events.append(self._read())

    def run(self, script: str) -> Any:
        """Returns what JavaScript evaluates to; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def addresses(self) -> list[str]:
        """Returns what the page has asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Returns what the browser or a script had to say of errors, such as what a policy has blocked."""
        entries = [event["params"]["entry"] for event in self.events if event.get("method") == "Log.entryAdded"]
        thrown = [str(event["params"]) for event in self.events if event.get("method") == "Runtime.exceptionThrown"]
        return [entry["text"] for entry in entries if entry["level"] == "error"] + thrown

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._reader.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        return json.loads(message)


@contextmanager
def open_browser(width: int = 1200, height: int = 900) -> Iterator[Page]:
    """Starts a browser with a page, and stops it at the end."""
    path = find_browser()
    assert path is not None, "no browser is installed: make tools"
    (its_input, our_output), (our_input, its_output) = os.pipe(), os.pipe()
    # Its helpers may still write there when it is killed already.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads from descriptor 3 and writes to descriptor 4.
        move = f'exec 3<&{its_input} 4>&{its_output}; exec "$0" "$@"'
        options = [*_OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["bash", "-c", move, path, *options, f"--window-size={width},{height}"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(Path(profile))},
        )
        os.close(its_input)
        os.close(its_output)
        with os.fdopen(our_input, "rb") as reader, os.fdopen(our_output, "wb") as writer:
            try:
                yield Page(reader, writer)
            finally:
                process.kill()
                process.wait(20)
