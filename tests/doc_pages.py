"""The pages of the documentation: what they show, and a folder with what they mention."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from diart_mp.speakers import EnrolledSpeakers
from tests.fakes import PITCHES, RATE, TONE_MODELS, conversation

Done = subprocess.CompletedProcess[str]
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The ``diart-mp`` commands that a page shows, in code blocks and in indented lines, without their comments."""
    indented = re.findall(r"^ {4,}(diart-mp .*)$", page.read_text(), flags=re.MULTILINE)
    for line in [*"".join(blocks(page, "bash")).splitlines(), *indented]:
        yield shlex.split(line, comments=True)


def fill(folder: Path) -> Path:
    """Put what the pages mention into a working folder: recordings, turns, speakers, stages and models."""
    conversation(folder / "a.wav", seconds=6.0, seed=1)
    samples, rate = soundfile.read(folder / "a.wav")
    soundfile.write(folder / "b.flac", samples, rate)
    soundfile.write(folder / "c.mp3", samples, rate)
    soundfile.write(folder / "ann.wav", 0.3 * np.sin(2 * np.pi * PITCHES[0] * np.arange(6 * RATE) / RATE), RATE)
    EnrolledSpeakers(embedding=TONE_MODELS.embedding).add("Bo", np.ones((1, len(PITCHES)))).save(folder / "team.json")
    turns = conversation(folder / "talk.wav", seconds=6.0, seed=1)
    rows = [f"SPEAKER talk 1 {start:.3f} {end - start:.3f} <NA> <NA> s{who} <NA> <NA>\n" for start, end, who in turns]
    (folder / "talk.rttm").write_text("".join(rows))
    for name in ("audio", "rttm", "turns", "uem"):
        (folder / name).mkdir()
    (folder / "audio" / "talk.wav").write_bytes((folder / "talk.wav").read_bytes())
    (folder / "rttm" / "talk.rttm").write_text("".join(rows))
    (folder / "turns" / "talk.rttm").write_text("".join(rows))
    (folder / "uem" / "talk.uem").write_text("talk 1 0.0 6.0\n")
    own = blocks(ROOT / "docs" / "own_stage.md", "python")
    (folder / "my_stages.py").write_text(own[0])
    (folder / "my_outputs.py").write_text(own[2])
    (folder / "my_models.py").write_text(blocks(ROOT / "docs" / "models.md", "python")[0])
    words, activity = blocks(ROOT / "docs" / "optional_stages.md", "python")
    (folder / "my_words.py").write_text(words)
    (folder / "my_activity.py").write_text(activity)
    return folder
