"""Output and processes of somebody else's stage are noticed, each once, and standard output stays what it was."""

import subprocess
import sys

import numpy as np
import pytest

from diart_mp.errors import ProtocolError
from diart_mp.messages import AudioRef, FieldValue, Message, Plain
from diart_mp.runtime.habits import Habits, check_shapes, children


def test_what_is_printed_is_told_once_and_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    habits = Habits("loud", children())
    assert habits.found() == []
    sys.stdout.write("first\nof many\n")
    sys.stdout.write("second\n")
    sys.stdout.flush()
    assert habits.found() == ["loud prints to standard output ('first'); it goes to the log of the stage"]
    assert habits.found() == []
    assert sys.stdout.encoding == before.encoding
    habits.close()
    assert sys.stdout is before
    assert capsys.readouterr().out == "first\nof many\nsecond\n"


def test_processes_are_told_once_also_those_of_before() -> None:
    with subprocess.Popen(["sleep", "60"]) as older:
        known = Habits("busy", children())
        assert known.found() == []
        with subprocess.Popen(["sleep", "60"]) as newer:
            says = ["busy starts processes; a killed stage leaves them behind"]
            assert known.found() == says
            assert known.found() == []
            newer.kill()
        known.close()
        habits = Habits("busy")  # as in a stage: who else should have started it?
        assert habits.found() == says
        habits.close()
        older.kill()


def test_an_array_keeps_its_number_of_dimensions() -> None:
    fields: dict[str, FieldValue] = {
        "scores": np.zeros((3, 2)),
        "audio": AudioRef("ring", 0, 0, 100),
        "turns": Plain([]),
    }
    message = Message(kind="chunk", stream="s", seq=0, fields=fields)
    check_shapes(message, {"scores": np.zeros((7, 1)), "audio": np.zeros(90), "new": np.zeros((1, 1, 1))})
    with pytest.raises(ProtocolError, match=r"it gives scores of shape \(7,\) in place of \(3, 2\)"):
        check_shapes(message, {"scores": np.zeros(7)})
    with pytest.raises(ProtocolError, match=r"it gives audio of shape \(1, 100\) in place of \(100,\)"):
        check_shapes(message, {"audio": np.zeros((1, 100))})
