"""The live picture as text, on wide and narrow terminals, and how often it is drawn."""

import io
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from rich.console import Console

from diart_mp.outputs.live import LiveView
from diart_mp.turns import Turn, Update

RATE = 16_000


@pytest.fixture(autouse=True)
def colour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same terminal wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def update(seq: int, *turns: Turn, stream: str = "sample.wav", latency: float | None = 84.2) -> Update:
    return Update(stream, seq, seq * 8_000, (seq + 1) * 8_000, RATE, turns, latency)


def dialogue(view: LiveView, stream: str = "sample.wav", steps: int = 20) -> None:
    """Speaker 0 talks in the first half, speaker 1 in the second half of ``steps`` half seconds."""
    for seq in range(steps):
        who = f"speaker{2 * seq // steps}"
        view.update(update(seq, Turn(seq * 8_000, (seq + 1) * 8_000, who), stream=stream))


def picture(view: LiveView, width: int = 80, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, height=height)
    console.print(view.render())
    return console.export_text().splitlines()


def test_picture_of_a_file() -> None:
    view = LiveView()
    dialogue(view)
    view.progress("sample.wav", 10.0, 30.0, 11.23)
    view.note("segmentation was started again")
    assert [line.rstrip() for line in picture(view)] == [
        "sample.wav  0:10",
        "● speaker1",
        f"speaker0 │{'██████':69}│",
        f"speaker1 │{'      █████▌':69}│",
        "          0:00        0:10       0:20        0:30       0:40        0:50",
        "   0.000    5.000  speaker0",
        "   5.000        …  speaker1",
        "━━━━━━━─────────────  0:10/0:30  11.2x  lag 84 ms",
        "! segmentation was started again",
    ]


def test_picture_of_a_microphone() -> None:
    view = LiveView()
    dialogue(view, "microphone")
    view.level("microphone", -30.0)
    assert picture(view)[-1] == "━━━━━━━━━━──────────  -30 dB  lag 84 ms"
    view.level("microphone", -math.inf)
    assert picture(view)[-1].startswith("────────────────────  -60 dB")


def test_nothing_heard_yet() -> None:
    assert picture(LiveView()) == []
    view = LiveView()
    view.update(update(0, latency=None))
    assert [line.rstrip() for line in picture(view)[:2]] == ["sample.wav  0:00", "○ silence"]
    view.progress("sample.wav", 5.0, None, None)
    assert picture(view)[-1] == "0:05"


def test_two_who_talk_at_once_and_one_who_has_stopped() -> None:
    view = LiveView()
    view.update(update(0, Turn(0, 8_000, "anna"), Turn(2_000, 8_000, "bert"), Turn(0, 3_000, "carl")))
    assert picture(view)[1].rstrip() == "● anna  ● bert"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_picture_fits_and_names_everybody(width: int) -> None:
    view = LiveView()
    dialogue(view, stream="a conversation with a very long name that no narrow terminal can hold.flac", steps=300)
    view.progress("a conversation with a very long name that no narrow terminal can hold.flac", 150.0, 3600.0, 10.0)
    view.note("embedding: process 4242 was killed (signal 9) and started again; nothing is lost")
    lines = picture(view, width)
    assert max(map(len, lines)) <= width
    assert any("speaker1" in line and "█" in line for line in lines)


def test_picture_is_not_higher_than_the_terminal() -> None:
    view = LiveView()
    for seq in range(40):
        view.update(update(seq, Turn(seq * 8_000, seq * 8_000 + 3_000, f"speaker{seq % 3}")))
    assert len(picture(view, height=40)) == 2 + 3 + 1 + 10 + 1
    assert len(picture(view, height=15)) <= 15


def test_last_turns_are_shown_newest_below() -> None:
    view = LiveView()
    for seq in range(40):
        view.update(update(seq, Turn(seq * 8_000, seq * 8_000 + 3_000, f"speaker{seq % 3}")))
    starts = [float(line.split()[0]) for line in picture(view)[6:16]]
    assert starts == [seq * 0.5 for seq in range(30, 40)]


def test_old_turns_are_forgotten_and_lanes_close() -> None:
    view = LiveView()
    dialogue(view, steps=2000)
    text = "\n".join(picture(view))
    assert "speaker0 │" not in text
    assert "speaker1 │" in text
    for seq in range(2000, 4000):
        view.update(update(seq, Turn(seq * 8_000, seq * 8_000 + 3_000, f"speaker{seq % 3}")))
    assert len(view._panels["sample.wav"]._final) < 200


def test_several_streams_share_the_terminal() -> None:
    view = LiveView()
    for number in range(6):
        dialogue(view, f"talk{number}")
    lines = picture(view)
    assert [line.split()[0] for line in lines if line.startswith("talk")] == ["talk0", "talk1", "talk2", "talk3"]
    assert lines[-1] == "+ 2 more"
    view.ended("talk1")
    lines = picture(view)
    assert [line.split()[0] for line in lines if line.startswith("talk")] == ["talk0", "talk2", "talk3", "talk4"]
    assert lines[-1] == "+ 1 more, 1 ended"


def test_speakers_keep_their_colours_and_no_colour_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    view = LiveView()
    dialogue(view)
    coloured = drawn(view, Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=60))
    assert coloured.count("\x1b[36mspeaker0") == coloured.count("\x1b[35mspeaker1") == 2
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn(view, Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=60))
    assert "\x1b[3" not in plain
    assert "speaker0" in plain


def drawn(view: LiveView, console: Console) -> str:
    console.print(view.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_names_cannot_draw_on_the_terminal() -> None:
    view = LiveView()
    view.update(update(0, Turn(0, 8_000, "x\x1b[2J\n[red]y"), stream="a\x1b[2Jb"))
    view.note("line\x1b[2J\nbreak")
    console = Console(file=io.StringIO(), width=60, color_system=None, force_terminal=True)
    text = drawn(view, console)
    assert "\x1b" not in text
    assert "[red]y" in text


def terminal() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=60, height=30), out


def test_it_is_drawn_ten_times_a_second_at_most_and_only_when_needed() -> None:
    console, out = terminal()
    times = iter([0.0, 0.0, 0.05, 0.09, 0.11, 0.11, 5.0])
    with LiveView(console, now=lambda: next(times)) as view:
        sizes = [out.tell()]
        actions: list[Callable[[], None]] = [partial(view.note, "one"), partial(view.note, "two"), *[view.refresh] * 3]
        for action in actions:
            action()
            sizes.append(out.tell())
    drawn_after = [after > before for before, after in pairwise(sizes)]
    assert drawn_after == [True, False, False, True, False]


def test_last_picture_has_the_summary_and_gives_the_terminal_back() -> None:
    console, out = terminal()
    with LiveView(console) as view:
        dialogue(view)
        assert "\x1b[?25l" in out.getvalue()  # cursor hidden
        view.finish("2 speakers in 10 s\noutputs in out/", {})
    text = out.getvalue()
    assert "\x1b[?25h" in text
    assert text.rindex("outputs in out/") > text.rindex("2 speakers in 10 s") > text.rindex("speaker1")


def test_terminal_is_given_back_after_an_error() -> None:
    console, out = terminal()
    with pytest.raises(TypeError), LiveView(console) as view:
        view.level("microphone", "loud")  # type: ignore[arg-type]
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
