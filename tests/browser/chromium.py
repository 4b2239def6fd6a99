"""A headless Chromium, driven through its DevTools protocol: one page, its console, its downloads."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

WAIT_S = 60.0


class Page:
    """The page of a browser."""

    def __init__(self, websocket: ClientConnection, downloads: Path) -> None:
        self._websocket, self._ids = websocket, itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self.downloads = downloads
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._websocket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while number not in self._answers:
            message = json.loads(self._websocket.recv(timeout=WAIT_S))
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message)
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.body && document.body.dataset.ready === 'yes'")

    def js(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, (expression, self.errors, self.js("document.body.innerText"))
            threading.Event().wait(0.05)
        return value

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def drop(self, path: Path) -> None:
        """Drop a file on the page as a hand would."""
        for kind in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def theme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def downloaded(self, name: str) -> str:
        path = self.downloads / name
        deadline = time.monotonic() + WAIT_S
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < deadline, list(self.downloads.iterdir())
            threading.Event().wait(0.05)
        return path.read_text()

    def turns(self) -> list[list[str]]:
        """The rows of the list of turns."""
        return list(
            self.js("[...document.querySelectorAll('#turns tr')].map(r => [...r.cells].map(c => c.textContent))")
        )

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif message["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.errors.append(str(parameters["args"]))
        elif message["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(str(parameters["entry"]))


@contextmanager
def chromium(folder: Path, microphone: Path) -> Iterator[Page]:
    """A browser whose microphone hears the recording, once; skips where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium (apt install chromium)")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
    ]
    options += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--window-size=1000,1100"]
    options += [f"--use-file-for-fake-audio-capture={microphone}%noloop", f"--user-data-dir={folder / 'profile'}"]
    downloads = folder / "downloads"
    downloads.mkdir()
    command = [program, *options, "--autoplay-policy=no-user-gesture-required", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = next(found for line in process.stderr if (found := re.search(r"ws://([\d.:]+)/", line)))
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            with urllib.request.urlopen(f"http://{said[1]}/json/list", timeout=WAIT_S) as answer:
                targets = json.load(answer)
            url = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
            with connect(url, proxy=None, max_size=None, compression=None) as websocket:
                yield Page(websocket, downloads)
                _quit(websocket)
        finally:
            process.terminate()
            process.wait(WAIT_S)


def _quit(websocket: ClientConnection) -> None:
    """Have the browser end itself, so that it leaves no process of its own."""
    with suppress(ConnectionClosed):
        websocket.send(json.dumps({"id": 0, "method": "Browser.close"}))
        while True:
            websocket.recv(timeout=WAIT_S)
