"""A headless Chromium that tests talk to through two pipes, by its DevTools protocol."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
MOST_SECONDS = 120


class Browser:
    """One page, and all that its console and its network said.

    Attributes:
        requests: addresses that were asked for, `data:` ones left out.
        errors: console errors, uncaught exceptions and what a policy refused.
    """

    def __init__(self, to: Any, of: Any) -> None:
        self._to, self._of, self._count = to, of, 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._of.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has gone")
            data += byte
        message: dict[str, Any] = json.loads(data)
        method, found = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            url = found["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(found["exceptionDetails"]))
        elif method == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(found["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and found["type"] in ("error", "assert"):
            self.errors.append(json.dumps(found["args"]))
        if method:
            self._events.append(message)
        return message

    def open(self, url: str, width: int = 1060, dark: bool = False) -> None:
        """Load a page, as wide and as dark as wanted, and wait until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        # Another address of the same document would be a jump and no load.
        self.call("Page.navigate", url="about:blank")
        self.requests, self.errors, self._events = [], [], []
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        # What was asked for until now has been answered or refused.
        self("new Promise(done => setTimeout(done, 50))")

    def __call__(self, script: str) -> Any:
        """What a script returns, run as from the console."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that is gone when the block ends."""
    assert CHROMIUM is not None
    its_in, to = os.pipe()
    of, its_out = os.pipe()
    # Out of the way of 3 and 4, which are Chromium's to read from and to write to.
    low = its_in, its_out
    its_in, its_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in low)
    for end in low:
        os.close(end)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (
            f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --no-first-run "
            f"--disable-background-networking --user-data-dir={profile} --remote-debugging-pipe "
            f"3<&{its_in} 4>&{its_out}"
        )
        process = subprocess.Popen(
            ["/bin/bash", "-c", command],
            pass_fds=(its_in, its_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_in)
        os.close(its_out)
        # One that hangs is killed, and whoever waits for it gets an error.
        watchdog = threading.Timer(MOST_SECONDS, process.kill)
        watchdog.start()
        try:
            with os.fdopen(to, "wb") as writer, os.fdopen(of, "rb") as reader:
                yield Browser(writer, reader)
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()


def address(path: Path, **fragment: str) -> str:
    """The address of a file, with what the page is to show."""
    return path.resolve().as_uri() + (f"#{urlencode(fragment)}" if fragment else "")
