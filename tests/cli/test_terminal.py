"""On a terminal: the live picture, Ctrl-C, and a terminal that is as it was before."""

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

from .command import COMMAND, TONES, Argument, Diart

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"  # the cursor


def on_terminal(
    diart: Diart, *arguments: Argument, react: Callable[[bytes, int], None] = lambda shown, terminal: None, **env: str
) -> tuple[int, bytes]:
    """Run the command with a terminal of its own; its exit code, and all that it drew.

    ``react`` is called with what was drawn so far and the terminal's descriptor whenever something was drawn.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        environment = diart.environment(**{"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **env})
        os.execve(COMMAND, [str(word) for word in (COMMAND, *arguments)], environment)
    modes = termios.tcgetattr(terminal)
    shown, last = b"", modes
    try:
        while part := _read(terminal):
            shown += part
            react(shown, terminal)
            last = termios.tcgetattr(terminal)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert last == modes
    return os.waitstatus_to_exitcode(status), shown


def _read(terminal: int) -> bytes:
    """What was drawn; nothing once the last process has let go of the terminal (an error on Linux)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_a_live_picture_and_the_terminal_given_back(diart: Diart, talk: Path) -> None:
    code, shown = on_terminal(diart, "run", talk, *TONES, "--latency", "5")
    assert code == 0
    for words in (b"speaker0", b"speaker1", b"0:20/0:20", b"20.0 s of audio", "█".encode()):
        assert words in shown
    assert shown.count(HIDE) == shown.count(SHOW) > 0
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert b"Traceback" not in shown


def test_ctrl_c_on_a_terminal(diart: Diart, shared: Path) -> None:
    """Typed, so that the terminal sends it to whoever is in the foreground."""
    pressed: list[int] = []

    def press(shown: bytes, terminal: int) -> None:
        if not pressed and b"speaker0" in shown:
            pressed.append(os.write(terminal, b"\x03"))

    code, shown = on_terminal(diart, "run", shared / "data" / "conv5.flac", *TONES, react=press)
    assert pressed
    assert code == 130
    assert b"s of audio in" in shown  # the summary
    assert b"0:00/10:00" not in shown[-600:]
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert b"Traceback" not in shown
    assert diart.left() == []


def test_an_error_on_a_terminal_is_one_line(diart: Diart, talk: Path) -> None:
    code, shown = on_terminal(diart, "run", talk, *TONES[:2], "--device", "abacus")
    assert code == 1
    assert shown.count(b"diart-mp: error: ") == 1
    assert b"abacus" in shown
    assert b"Traceback" not in shown


def test_a_dumb_terminal_gets_lines(diart: Diart, talk: Path) -> None:
    code, shown = on_terminal(diart, "run", talk, *TONES, TERM="dumb")
    assert code == 0
    assert b"\x1b" not in shown
    assert b"speaker1\r\n" in shown


def test_nothing_is_read_from_a_terminal(diart: Diart) -> None:
    code, shown = on_terminal(diart, "run", "-")
    assert code == 2
    assert b"which is a terminal" in shown


def test_a_stopped_command_goes_on(diart: Diart, talk: Path) -> None:
    """Ctrl-Z and fg: the processes of the stages wait, and nothing is taken for dead."""
    with diart.started("run", talk, *TONES, "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        subprocess.run(["sleep", "1"], check=True)
        process.send_signal(signal.SIGCONT)
        assert '"restarts": 0' in process.stdout.read()
        assert process.wait(30) == 0
