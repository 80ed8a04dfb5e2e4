"""A real browser without a window, for tests and pictures: Chromium, spoken to over two pipes.

That is its DevTools protocol, of which this needs so little that no package is needed for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from itertools import count
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

#: How long anything may take, in seconds.
PATIENCE = 30

#: What becomes the browser: it reads commands from descriptor 3, and writes to 4.
BECOME = (
    "import os, sys\n"
    "ends = [os.dup(int(word)) for word in sys.argv[1:3]]\n"
    "high = [os.dup2(end, 60 + number) for number, end in enumerate(ends)]\n"
    "for number, end in enumerate(high): os.dup2(end, 3 + number)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)


def find_browser() -> str | None:
    """Return the program, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of it.

    Parameters:
      program: As ``find_browser()`` returns it.
      scripts: Whether it runs those of pages.
    """

    def __init__(self, program: str, *, scripts: bool = True) -> None:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        words = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._home.name}"]
        words += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        words += [
            "--disable-lcd-text",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        if hasattr(os, "getuid") and os.getuid() == 0:
            words.append("--no-sandbox")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", BECOME, str(theirs_in), str(theirs_out), *words],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": self._home.name},
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers = count(1)
        self._answers: Queue[dict[str, Any]] = Queue()
        #: What the page has complained of: errors, and what its policy forbids.
        self.complaints: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)
        os.close(self._out)
        os.close(self._in)
        self._home.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have it do something, and return what it says."""
        number = next(self._numbers)
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = self._answers.get(timeout=1)
            except Empty:
                assert self._process.poll() is None, "the browser has ended"
                continue
            if answer["id"] == number:
                assert "error" not in answer, answer["error"]
                found: dict[str, Any] = answer["result"]
                return found
        raise TimeoutError(method)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Return what an expression has for a value in the page."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def text(self, selector: str) -> str:
        """Return what is to be read in an element; nothing where there is none."""
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait_for(self, expression: str) -> Any:
        """Return what an expression has for a value, as soon as that is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if found := self.value(f"({expression}) || ''"):
                    return found
            except AssertionError:  # between two pages
                pass
            assert time.monotonic() < deadline, f"{expression} did not come true: {self.text('body')}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Press the mouse's button where an element is."""
        spot = self.value(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key that writes nothing, or ``Enter``."""
        more = {"text": "\r", "windowsVirtualKeyCode": 13} if key == "Enter" else {}
        more = {"windowsVirtualKeyCode": 9} if key == "Tab" else more
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **more)

    def picture(
        self, width: int, height: int | None = None, *, dark: bool = False, telephone: bool = False, scale: float = 1
    ) -> bytes:
        """Return the page as a PNG, or as much of it as has room in this height."""
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        metrics: Mapping[str, Any] = {"width": width, "deviceScaleFactor": scale, "mobile": telephone}
        self.call("Emulation.setDeviceMetricsOverride", height=height or 100, **metrics)
        if height is None:
            height = self.value("document.documentElement.scrollHeight")
            self.call("Emulation.setDeviceMetricsOverride", height=height, **metrics)
        self.value("scrollTo(0, 0)")
        return b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _read(self) -> None:
        left = b""
        while True:
            try:
                some = os.read(self._in, 1 << 16)
            except OSError:
                return
            if not some:
                return
            *whole, left = (left + some).split(b"\0")
            for each in map(json.loads, whole):
                if "id" in each:
                    self._answers.put(each)
                elif each["method"] == "Log.entryAdded":
                    self.complaints.append(each["params"]["entry"]["text"])
                elif each["method"] == "Runtime.exceptionThrown":
                    self.complaints.append(str(each["params"]["exceptionDetails"]))
