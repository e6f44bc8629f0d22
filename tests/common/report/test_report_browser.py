"""The report in a browser: headless Chromium, driven through a pipe by the DevTools protocol, with no network."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_study as made

from carom.common.report import page as report
from carom.common.report.values import plain, rate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
)


PATIENCE = 60  # seconds


class Browser:
    """Chromium behind two pipes: it reads commands from its descriptor 3 and writes answers and events to 4."""

    def __init__(self, profile: Path) -> None:
        there_reads, self.out = os.pipe()
        self.inn, there_writes = os.pipe()
        # Out of the way of 3 and 4, which the child's ends are moved to.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (there_reads, there_writes)]

        def place() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        command = [str(CHROMIUM), *FLAGS.split(), "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            command, preexec_fn=place, pass_fds=(3, 4), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (*ends, there_reads, there_writes):
            os.close(fd)
        self.buffer, self.last, self.events = b"", 0, []
        self.session: str | None = None

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            if not select.select([self.inn], [], [], PATIENCE)[0]:
                raise TimeoutError("Chromium says nothing")
            chunk = os.read(self.inn, 1 << 20)
            if not chunk:
                raise ConnectionError("Chromium closed its pipe")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.last += 1
        session = {"sessionId": self.session} if self.session else {}
        command = {"id": self.last, "method": method, "params": parameters, **session}
        os.write(self.out, json.dumps(command).encode() + b"\0")
        while True:
            message = self.read()
            if message.get("id") == self.last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait(self, event: str) -> None:
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self.read())

    def open(self, page: Path) -> None:
        """The page in a new tab, loaded."""
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        self.wait("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key)
        code = {"Enter": 13, " ": 32, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40}[key]
        parameters = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.send("Input.dispatchKeyEvent", type="keyDown", **parameters)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        x, y = self.run(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center"}});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def requests(self) -> list[str]:
        """Addresses that were asked for, other than the page's own and inline data."""
        sent = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [
            asked["request"]["url"]
            for asked in sent
            if asked["type"] != "Document" and not asked["request"]["url"].startswith("data:")
        ]

    def complaints(self) -> list[str]:
        """What the browser logged: refused scripts and loads, and errors of the page's script."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        logged = [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]
        thrown = [str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return logged + thrown

    def close(self) -> None:
        self.session = None
        try:
            self.send("Browser.close")
            self.process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.inn)
        os.close(self.out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write_report(path, made.make_study(), made.make_examples())
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    return browser


SHOWN = "[...document.querySelectorAll('article.example')].filter(e => e.checkVisibility()).length"
ROUTES = "[...new Set([...document.querySelectorAll('article:not([hidden]) .route')].map(e => e.textContent))]"


def cell(source: str, target: str, modality: str = "image") -> str:
    return f'g.cell[data-route^="{modality}: {modality}-{source} to {modality}-{target},"]'


def test_opens_without_network_or_complaint(opened: Browser) -> None:
    assert opened.run("document.title") == "How adversarial examples transfer"
    assert opened.run(SHOWN) == len(made.make_examples())
    assert opened.run("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    assert opened.requests() == []
    assert opened.complaints() == []


def test_every_picture_decodes(opened: Browser) -> None:
    widths = opened.run("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert widths == [28] * (3 * 3 * len(made.MODELS["image"]))


def test_every_sound_has_its_duration(opened: Browser) -> None:
    durations = opened.run("""Promise.all([...document.querySelectorAll("audio")].map(a => new Promise((done, fail) => {
        a.onloadedmetadata = () => done(a.duration);
        a.onerror = () => fail(a.error);
        a.preload = "metadata";
        a.load();
    })))""")
    assert len(durations) == 3 * 3 * len(made.MODELS["audio"])
    assert durations == pytest.approx([made.SECONDS] * len(durations))


def test_data_can_be_read_back(opened: Browser) -> None:
    assert opened.run("JSON.parse(document.getElementById('study').textContent)") == plain(made.make_study())


def test_a_click_leaves_the_examples_of_the_cell(opened: Browser) -> None:
    opened.click(cell("resnet", "vit"))
    assert opened.run(ROUTES) == ["image-resnet → image-vit, mi-fgsm"]
    assert opened.run(SHOWN) == 3
    said = opened.run("document.getElementById('which').textContent")
    assert said == "image: image-resnet to image-vit, mi-fgsm: 3 of 39 shown."
    assert opened.run("document.activeElement.id") == "which"
    opened.click("#everything")
    assert opened.run(SHOWN) == 39


def test_a_cell_without_examples_says_so(opened: Browser) -> None:
    opened.click(cell("vit", "gru"))
    assert opened.run(SHOWN) == 0
    assert "no example is in this report" in opened.run("document.getElementById('which').textContent")


def test_the_keyboard_does_what_the_mouse_does(opened: Browser) -> None:
    opened.run(f"document.querySelector({json.dumps(cell('m5', 'm5', 'audio'))}).focus()")
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        opened.key(key)
    assert opened.run(ROUTES) == ["audio-m5 → audio-transformer, mi-fgsm"]
    assert opened.run("document.querySelectorAll('[aria-pressed=true]').length") == 1
    opened.run("document.getElementById('back').focus()")
    opened.key("Enter")
    assert opened.run("document.activeElement.dataset.route").startswith("audio: audio-m5 to audio-transformer")
    opened.key("ArrowDown")
    opened.key(" ")
    assert opened.run(SHOWN) == 0


def test_each_map_is_one_stop_of_the_tab_key(opened: Browser) -> None:
    opened.run("document.querySelector('#modality-1 .measures input:checked').focus()")
    stops = []
    for _ in range(3):
        opened.key("Tab")
        stops.append(opened.run("document.activeElement.dataset.route ?? document.activeElement.textContent.trim()"))
    assert stops[0].startswith("image: image-resnet to image-resnet")
    assert stops[1:] == ["Model", "Family"]
    opened.run("document.querySelector('#modality-1 .measures input:checked').focus()")
    opened.key("Tab")
    width = "getComputedStyle(document.activeElement.querySelector('.frame')).strokeWidth"
    assert opened.run(width) == "4px"


def test_columns_sort_by_the_keyboard_and_undefined_stays_last(opened: Browser) -> None:
    buttons = "[...document.querySelectorAll('#modality-1 table.all th button')]"
    opened.run(f"{buttons}.find(b => b.textContent === 'R').focus()")
    read = """(() => {
        const table = document.querySelector("#modality-1 table.all");
        const at = [...table.tHead.rows[0].cells].findIndex(c => c.ariaSort !== "none");
        return [...table.tBodies[0].rows].map(r => r.cells[at].dataset.value);
    })()"""
    cells = made.make_study()["modalities"]["image"]["cells"]
    known = sorted(c["relative"] for c in cells if c["relative"] is not None)
    for expected in (known, known[::-1]):
        opened.key("Enter")
        found = opened.run(read)
        assert [float(v) for v in found[:-1]] == pytest.approx(expected)
        assert found[-1] == ""


def test_the_measure_can_be_switched(opened: Browser) -> None:
    shown = f"[...document.querySelectorAll({json.dumps(cell('resnet', 'vgg') + ' .measure')})]"
    shown += ".filter(g => getComputedStyle(g).display !== 'none').map(g => g.querySelector('text').textContent)"
    first = made.make_study()["modalities"]["image"]["cells"][1]
    assert opened.run(shown) == [rate(first["excess"])]
    opened.click("#modality-1 input[value=control]")
    assert opened.run(shown) == [rate(first["control"])]


@pytest.mark.parametrize("hostile", [False, True])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, page: Path, tmp_path: Path, hostile: bool) -> None:
    if hostile:
        page = tmp_path / "hostile.html"
        report.write_report(page, *made.make_hostile())
    browser.open(page)
    browser.send("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") == 390


# What each of the two layers keeps out. Without the controls nothing would show that the hostile text is hostile.


def hostile_page(path: Path, monkeypatch: pytest.MonkeyPatch, escape: bool, policy: bool) -> Path:
    if not escape:
        careful = report.Environment
        monkeypatch.setattr(report, "Environment", lambda **options: careful(**options | {"autoescape": False}))
    text = report.render(*made.make_hostile(), title=made.HOSTILE)
    if not policy:
        text, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        assert removed == 1
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_text_is_inert(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: bool) -> None:
    browser.open(hostile_page(tmp_path / "page.html", monkeypatch, escape=True, policy=policy))
    assert browser.run("document.title") == made.HOSTILE
    assert browser.run("document.scripts.length") == 2
    assert browser.run("document.images.length") == 0
    assert browser.run("document.querySelector('h1').textContent") == made.HOSTILE
    assert browser.requests() == []
    assert browser.complaints() == []


def test_control_neither_escaping_nor_policy(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.open(hostile_page(tmp_path / "page.html", monkeypatch, escape=False, policy=False))
    assert browser.run("document.title") == "PWNED"


def test_control_policy_alone(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.open(hostile_page(tmp_path / "page.html", monkeypatch, escape=False, policy=True))
    assert browser.run("document.title") != "PWNED"
    assert browser.run("document.scripts.length") > 2
    assert any("Content Security Policy" in said for said in browser.complaints())
