"""A Chromium without a window, driven through its debugging pipe: what screenshots and tests of pages need of one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_GONE = "Inspected target navigated or closed"
"""What waits for something in a page is told when the browser goes to another."""
MISSING = "Chromium is missing; install it: apt-get install chromium"


def chromium() -> str | None:
    """The program; None where it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page at a time.

    The protocol is JSON between zero bytes, to file 3 of the browser and from its file 4
    (https://chromedevtools.github.io/devtools-protocol/).
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            FileNotFoundError: there is none.
        """
        program = chromium()
        if program is None:
            raise FileNotFoundError(MISSING)
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        inward, from_browser = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command = [program, *flags, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank"]
        # The shell gives the two ends the numbers that the browser expects.
        shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(shell, pass_fds=(to_browser, from_browser), **quiet)
        os.close(to_browser)
        os.close(from_browser)
        self._in = os.fdopen(inward, "rb", buffering=0)
        self._rest, self._number, self._session = b"", 0, ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def open(self, url: str, width: int, height: int) -> None:
        """Load a page in a view of this size, pictures that are in it included."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Page.navigate", url=url)
        while self._message().get("method") != "Page.loadEventFired":
            pass
        # Lazily loaded ones wait for a frame to be drawn, which a browser without a window may never do by itself.
        shown = "one.getClientRects().length > 0 && one.getBoundingClientRect().top < innerHeight"
        seen = f"[...document.images].filter((one) => {shown})"
        decoded = '(one) => { one.loading = "eager"; return one.decode().catch(() => null) }'
        self.run(f"Promise.all({seen}.map({decoded}))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, waited for where it is a promise.

        Raises:
            RuntimeError: it raises.
        """
        found = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until a JavaScript expression is true in the page, or in the one that it goes to meanwhile."""
        look = f"new Promise((done) => {{ const look = () => {condition} ? done() : setTimeout(look, 50); look(); }})"
        while True:
            try:
                self.run(look)
            except RuntimeError as error:
                if _GONE not in str(error):
                    raise
            else:
                return

    def screenshot(self, file: Path) -> None:
        """What is in the view, as PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        self._in.close()
        self._profile.cleanup()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self._out, text) :]
        while (answer := self._message()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._in.read(1 << 16)
            if not more:
                raise RuntimeError("the browser has ended")
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(one))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
