"""A small corpus of people who hum, for evaluating and tuning."""

from pathlib import Path

import pytest

from tests.fakes import conversation


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in ``audio`` (one shorter than a window), their references in ``rttm``."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    (folder / "rttm").mkdir()
    for name, seconds, seed in (("long", 14.3, 1), ("other", 9.0, 2), ("short", 3.3, 4)):
        turns = conversation(folder / "audio" / f"{name}.wav", seconds=seconds, seed=seed)
        lines = [f"SPEAKER {name} 1 {a:.3f} {b - a:.3f} <NA> <NA> person{who} <NA> <NA>\n" for a, b, who in turns]
        (folder / "rttm" / f"{name}.rttm").write_text("".join(lines))
    return folder
