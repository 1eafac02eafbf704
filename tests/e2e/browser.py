"""A headless Chromium, asked over the pipe of its own debugging protocol: no driver, no library."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO, Any, Final

import msgspec
import pytest

INSTALL: Final = "no Chromium: install it, e.g. with `apt-get install chromium`"
_LONGEST: Final = 60.0  #: seconds
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_AS_THREE_AND_FOUR: Final = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.dup2(int(sys.argv[2]), 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)
"""The protocol wants these file descriptors."""


def program() -> str:
    """Where Chromium is. Without one the test is skipped, and fails where the check is made."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if "CI" in os.environ:
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    return found


class Page:
    """One page. `requests` are the addresses it asked for, `complaints` what its console says."""

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._commands = commands
        self._messages = _messages(answers)
        self._session: str | None = None
        self._last = 0
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of the promise that it gives."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> Any:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(msgspec.json.encode(message) + b"\0")
        self._commands.flush()
        for received in self._messages:
            if received.get("id") == self._last:
                assert "error" not in received, received["error"]
                return received["result"]
            self._notice(received.get("method"), received.get("params"))
        raise AssertionError("Chromium has ended")

    def _notice(self, event: str | None, params: Any) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])


@contextmanager
def browsing(browser: str, directory: Path) -> Iterator[Page]:
    """A page of a new browser, whose profile is in `directory`. Blocks: use it in a thread."""
    to_browser, commands = _pipe()
    answers, from_browser = _pipe()
    command = [browser, *_FLAGS, f"--user-data-dir={directory}"]
    process = subprocess.Popen(
        [sys.executable, "-c", _AS_THREE_AND_FOUR, str(to_browser), str(from_browser), *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    watchdog = Timer(_LONGEST, process.kill)
    watchdog.start()
    try:
        with open(commands, "wb") as writing, open(answers, "rb") as reading:
            yield Page(writing, reading)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def _pipe() -> tuple[int, int]:
    """Its two ends, far from the numbers that the browser wants them to have."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _messages(answers: IO[bytes]) -> Iterator[dict[str, Any]]:
    """What the browser says, each message with a NUL behind it."""
    buffer = b""
    while chunk := os.read(answers.fileno(), 65536):
        *whole, buffer = (buffer + chunk).split(b"\0")
        yield from map(msgspec.json.decode, whole)
