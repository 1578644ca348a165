"""A headless Chromium, driven over its DevTools protocol: opens a page, asks it, presses its keys, takes its picture."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# As root a browser has no sandbox; everything that would ask the network by itself is off.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "--disable-dev-shm-usage",
)
STARTS_WITHIN_SECONDS = 60
ANSWERS_WITHIN_SECONDS = 60
LOCAL = ("file:", "data:", "about:", "chrome:")


def browser_path() -> str | None:
    """The first browser of this machine that can be driven."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab. `complaints` are errors of the console and of the policy, `requests` all addresses asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sent = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.events: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self.sent += 1
        number = self.sent
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self.events:
            self._next()

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key as a person does."""
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **told)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.ask("Input.insertText", text=text)

    def sees(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Set the window's size and what its person prefers."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> None:
        """A PNG of the page, from `top` on; the whole of it without a height."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def printed(self, path: Path) -> None:
        """A PDF of the page."""
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"]))

    def _next(self) -> dict[str, Any]:
        message = dict(json.loads(self.socket.recv(timeout=ANSWERS_WITHIN_SECONDS)))
        method, parameters = message.get("method", ""), message.get("params", {})
        self.events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:2_000])
        if method == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(parameters["entry"]["text"])
        if method == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(parameters["args"])[:2_000])
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        return message


@contextlib.contextmanager
def running(path: str) -> Iterator[Browser]:
    """A browser of its own profile, ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(profile), child), max_size=None, open_timeout=STARTS_WITHIN_SECONDS) as socket:
                yield Browser(socket)
        finally:
            child.terminate()
            child.wait(timeout=30)


def _address(profile: Path, child: subprocess.Popen[bytes]) -> str:
    told = profile / "DevToolsActivePort"
    until = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < until and child.poll() is None:
        if told.exists() and "\n" in (text := told.read_text()):
            with urllib.request.urlopen(f"http://127.0.0.1:{text.split()[0]}/json/list", timeout=30) as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError(f"the browser did not start within {STARTS_WITHIN_SECONDS} s (exit {child.poll()})")
