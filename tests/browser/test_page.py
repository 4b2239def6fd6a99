"""The page in a real browser: microphone, dropped file, names, downloads, both themes, and what people with screen readers get."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from diart_mp.config import Settings
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run
from tests.web.conftest import Recording
from tests.web.conftest import recordings as recordings
from tests.web.rig import Serving, serving
from tests.web.test_resume import stopped

from .chromium import Page, chromium

AXE = Path(__file__).resolve().parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
EARLY = Settings(start="early")


@pytest.fixture(scope="module")
def early_server() -> Iterator[Serving]:
    with serving(EARLY) as running:
        yield running


@pytest.fixture(scope="module")
def early_rttm(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of the first recording says that speaks from the first step on, as the page does."""
    files = run(recordings[1].path, tmp_path_factory.mktemp("early"), models=TONE_MODELS, settings=EARLY).files
    return files["talk1.rttm"].decode()


@pytest.fixture
def page(early_server: Serving, recordings: list[Recording], tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path, recordings[1].path) as page:
        page.open(f"http://localhost:{early_server.port}/")
        yield page
        assert page.errors == []


def test_the_microphone_is_diarized_while_it_is_heard(page: Page, early_server: Serving, early_rttm: str) -> None:
    lines = [line.split() for line in early_rttm.splitlines()]
    waits = [_time_to_first_turn(page)]
    while waits[-1] >= 1.5 and len(waits) < 3:  # more than once only where the machine is busy
        page.open(f"http://localhost:{early_server.port}/")
        waits.append(_time_to_first_turn(page))
    assert waits[-1] < 1.5, waits
    page.until("Number(document.getElementById('heard').textContent.split(':')[1]) >= 6")
    os.kill(early_server.pid("gateway"), signal.SIGKILL)
    page.until("document.getElementById('state').textContent === 'Connection lost; trying again'")
    page.until("document.getElementById('state').textContent === 'Listening'")
    page.errors.clear()  # the browser tells of the connection that broke
    page.until("Number(document.getElementById('heard').textContent.split(':')[1]) >= 14")
    page.click("#stop")
    page.until("document.getElementById('state').textContent === 'Done'")
    turns = page.turns()
    assert {turn[2] for turn in turns} == {line[7] for line in lines}
    assert abs(len(turns) - len(lines)) <= 1
    assert page.js("document.querySelectorAll('#speakers li').length") == len({line[7] for line in lines})


def _time_to_first_turn(page: Page) -> float:
    """How long after somebody has begun to speak it is shown, s of audio."""
    page.click("#listen")
    page.until("document.querySelectorAll('#turns tr').length")
    minutes, seconds = map(int, page.js("document.getElementById('heard').textContent").split(":"))
    return 60 * minutes + seconds - float(page.turns()[0][0])


def test_a_dropped_file_a_name_and_downloads(page: Page, recordings: list[Recording], early_rttm: str) -> None:
    page.drop(recordings[1].path)
    page.until("document.getElementById('state').textContent === 'Done'")
    assert len(page.turns()) == early_rttm.count("\n")
    page.js(
        "(() => { const name = document.querySelector('#speakers input'); name.focus(); name.value = 'Ada L';"
        " name.dispatchEvent(new Event('input')); })()"
    )
    speaker = page.js("document.querySelector('#speakers input').getAttribute('aria-label')").removeprefix("Name of ")
    assert "Ada L" in {turn[2] for turn in page.turns()}
    for kind in ("rttm", "srt", "json"):
        page.click(f"[data-format={kind}]")
    assert page.downloaded("talk1.rttm") == early_rttm.replace(f" {speaker} ", " Ada_L ")
    assert page.downloaded("talk1.srt").count(" --> ") == early_rttm.count("\n")
    saved = json.loads(page.downloaded("talk1.json"))
    assert {turn["name"] for turn in saved["turns"] if turn["speaker"] == speaker} == {"Ada L"}


def test_a_gateway_that_is_killed_costs_nothing(
    page: Page, early_server: Serving, recordings: list[Recording], early_rttm: str
) -> None:
    with stopped(early_server.pid("clustering")):  # so that it cannot be done by then
        page.drop(recordings[1].path)
        page.until("document.getElementById('state').textContent === 'Reading talk1'")
        os.kill(early_server.pid("gateway"), signal.SIGKILL)
        page.until("document.getElementById('state').textContent === 'Connection lost; trying again'")
    page.until("document.getElementById('state').textContent === 'Done'")
    page.click("[data-format=rttm]")
    assert page.downloaded("talk1.rttm") == early_rttm
    page.errors.clear()  # the browser tells of the connection that broke


def test_a_recording_can_be_stopped(page: Page, early_server: Serving, tmp_path: Path) -> None:
    conversation(tmp_path / "long.wav", seconds=120.0, seed=3)
    with stopped(early_server.pid("clustering")):  # so that it cannot be done by then
        page.drop(tmp_path / "long.wav")
        page.until("document.getElementById('state').textContent === 'Reading long'")
        assert page.js("document.getElementById('heard').textContent").endswith(" of 2:00")
        page.js("document.getElementById('stop').focus()")
        page.click("#stop")
    page.until("document.getElementById('state').textContent === 'Done'")
    minutes, seconds = map(int, page.js("document.getElementById('heard').textContent").split(":"))
    assert 60 * minutes + seconds < 60
    assert page.js("document.activeElement.id") == "listen"  # not lost with the button that is disabled


def test_a_timeline_is_moved_by_keys_and_shown_whole(page: Page, tmp_path: Path) -> None:
    conversation(tmp_path / "long.wav", seconds=100.0, seed=3)
    page.drop(tmp_path / "long.wav")
    page.until("document.getElementById('state').textContent === 'Done'")
    pictures = [_timeline(page)]
    page.js("document.getElementById('timeline').focus()")
    for key in ("Home", "End", "ArrowLeft"):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        pictures.append(_timeline(page))
    page.click("#whole")
    pictures.append(_timeline(page))
    newest, home, end, back, whole = pictures
    assert newest == end
    assert len({newest, home, back, whole}) == 4
    assert page.js("document.getElementById('whole').getAttribute('aria-pressed')") == "true"


def _timeline(page: Page) -> str:
    return str(page.js("document.getElementById('timeline').toDataURL()"))


def test_a_token_is_asked_for_and_may_be_in_the_address(recordings: list[Recording], tmp_path: Path) -> None:
    with serving(EARLY, token="open-sesame") as server, chromium(tmp_path, recordings[1].path) as page:
        page.open(f"http://localhost:{server.port}/")
        page.drop(recordings[2].path)
        assert "asks for a token" in page.until("document.getElementById('problem').textContent")
        assert page.js("document.activeElement.id") == "token"
        for place in ("?", "#"):
            page.open(f"http://localhost:{server.port}/{place}token=open-sesame")
            page.drop(recordings[2].path)
            page.until("document.getElementById('state').textContent === 'Done'")
        assert page.errors == []


def test_a_file_whose_turns_are_revised(recordings: list[Recording], tmp_path: Path) -> None:
    settings = Settings(start="early", clustering="adaptive")
    files = run(recordings[0].path, tmp_path / "out", models=TONE_MODELS, settings=settings).files
    with serving(settings) as server, chromium(tmp_path, recordings[0].path) as page:
        page.open(f"http://localhost:{server.port}/")
        page.drop(recordings[0].path)
        page.until("document.getElementById('state').textContent === 'Done'")
        page.click("[data-format=rttm]")
        assert page.downloaded("talk0.rttm") == files["talk0.rttm"].decode()
        assert page.errors == []


def test_both_themes_and_no_serious_obstacle(page: Page, recordings: list[Recording], tmp_path: Path) -> None:
    if not AXE.exists():
        pytest.skip(f"no axe-core at {AXE} (npm install --prefix .venv/axe axe-core)")
    page.drop(recordings[1].path)
    page.until("document.getElementById('state').textContent === 'Done'")
    page.js(AXE.read_text())
    pictures = []
    for theme in ("light", "dark"):
        page.theme(theme)
        found = page.js("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)]))")
        assert [each for each in found if each[0] in ("serious", "critical")] == []
        page.picture(tmp_path / f"{theme}.png")
        pictures.append((tmp_path / f"{theme}.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_a_file_that_is_no_audio_says_what_to_do(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    page.drop(tmp_path / "letter.txt")
    assert "cannot be read as audio" in page.until("document.getElementById('problem').textContent")
