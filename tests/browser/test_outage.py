"""What the page does after a long outage: it catches up at the pace that the server allows, and what it could not hold is silence."""

from pathlib import Path

from diart_mp.config import Settings
from tests.web.conftest import Recording
from tests.web.conftest import recordings as recordings
from tests.web.rig import serving

from .chromium import chromium

BEFORE_S, AWAY_S, HELD_S = 5, 150, 120
BEGIN = """(async () => {
  const { Stream } = await import("/stream.js");
  const told = { complaints: [], end: "", early: 0, seconds: (count) => Array.from({ length: count }, () => new Float32Array(16000)) };
  const ignore = () => {};
  const page = { say: ignore, meet: ignore, rename: ignore, show: ignore,
    complain: (text) => told.complaints.push(text), settle: (text) => { told.end = text; } };
  const stream = new Stream({ name: "talk", rate: 16000, live: true, token: "", page });
  const send = stream.send;
  stream.send = (samples) => {
    const due = stream.from / 16000 + 1 + stream.hurry * (Date.now() - stream.openedAt) / 1000;
    told.early = Math.max(told.early, stream.position / 16000 - due);
    send.call(stream, samples);
  };
  Object.assign(window, { stream, told });
})()"""


def test_what_piled_up_comes_at_the_pace_of_the_server(recordings: list[Recording], tmp_path: Path) -> None:
    """A microphone that goes on for longer than the page can hold, made of silence that comes all at once."""
    with serving(Settings(start="early"), max_rate=40.0) as server, chromium(tmp_path, recordings[0].path) as page:
        page.open(f"http://localhost:{server.port}/")
        page.js(BEGIN)
        page.js(f"told.seconds({BEFORE_S}).forEach((block) => stream.add(block))")
        page.until(f"stream.acked === {BEFORE_S} * 16000")
        page.js(f"stream.broken(); told.seconds({AWAY_S}).forEach((block) => stream.add(block)); stream.finish()")
        assert page.until("told.end") == "Done"
        assert page.js("[stream.acked / 16000, stream.position / 16000]") == [BEFORE_S + AWAY_S] * 2
        assert page.js("told.early") <= 0.001
        lost = [text for text in page.js("told.complaints") if "were lost" in text]
        assert lost[-1] == f"{AWAY_S - HELD_S:.1f} s of audio were lost while the server was away."
        assert page.errors == []
