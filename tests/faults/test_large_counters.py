"""Sample and chunk counters beyond 2^31 and 2^32, through all four processes: a stream that has run for days goes on as any other.

Nobody can wait that long, so the owner of a long recording finds the journal and the checkpoint of a process before it,
which stop shortly before the counters pass the mark. The recording has a hole of silence that takes no room on disk.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from diart_mp.config import Settings
from diart_mp.runtime.journal import Journal, Position
from diart_mp.runtime.ledger import Checkpoint
from diart_mp.runtime.local import LocalPipeline
from diart_mp.topology import Job, SourceConfig
from diart_mp.transport.ring import PREFIX
from tests.fakes import RATE, TONE_MODELS, conversation

SETTINGS = Settings.from_seconds()
STEP, DURATION = SETTINGS.step, SETTINGS.duration
CHUNKS = 40
BEFORE = 20  # steps between where the stream goes on and the mark


def long_recording(path: Path, silence: int) -> None:
    """``silence`` samples of nothing, then people who hum; in W64, which may be larger than 4 GiB."""
    conversation(path.with_suffix(".wav"), seconds=CHUNKS * STEP / RATE, seed=8)
    talk = soundfile.read(path.with_suffix(".wav"), dtype="int16")[0]
    header = path.with_suffix(".head")
    soundfile.write(header, np.zeros(1, np.int16), RATE, format="W64", subtype="PCM_16")
    head = bytearray(header.read_bytes())
    at = head.index(b"data")
    samples = silence + len(talk)
    head[at + 16 : at + 24] = (24 + 2 * samples).to_bytes(8, "little")  # a W64 chunk's size counts its own header
    data = at + 24
    head[16:24] = (data + 2 * samples).to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(head[:data])
        file.seek(data + 2 * silence)
        file.write(talk.tobytes())
    assert soundfile.info(path).frames == samples


def went_on(tmp_path: Path, name: str, *, seq: int, sample: int) -> list[dict[str, Any]]:
    """The results of a stream whose first ``seq`` chunks are done; the next window begins at ``sample``."""
    folder = tmp_path / name
    folder.mkdir()
    long_recording(folder / "talk.w64", sample + DURATION - STEP)
    job = Job(
        sources=(SourceConfig(kind="file", name="talk", path=str(folder / "talk.w64")),),
        settings=SETTINGS,
        output=str(folder / "out"),
        formats=("rttm", "jsonl"),
    )
    results: list[dict[str, Any]] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "result":
            results.append(event["update"])

    with LocalPipeline(job, TONE_MODELS, on_event=on_event) as pipeline:
        journal = Journal(pipeline.directory, f"{pipeline.directory.name}-0")
        last = (sample + DURATION - STEP) / RATE
        journal.append({"stream": "talk", "seq": seq - 1, "start": 0.0, "end": last, "turns": [], "latency_ms": 0.0})
        journal.save(Position(Checkpoint(seq - 1), origin=0, window=sample, ring=f"{PREFIX}gone", sound=0))
        journal.close()
        summary = pipeline.run()
    assert summary.failures == []
    assert summary.restarts == 0
    written = [json.loads(line) for line in (folder / "out" / "talk.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in written] == [update["seq"] for update in results]
    os.truncate(folder / "talk.w64", 0)
    return [update for update in results if update["seq"] >= seq]


def spoken(updates: list[dict[str, Any]], seq: int, sample: int) -> list[tuple[int, str, int, int]]:
    """Chunk, speaker, and start and end in samples of each turn, relative to where the stream went on."""
    return [
        (
            update["seq"] - seq,
            turn["speaker"],
            round(turn["start"] * RATE) - sample,
            round(turn["end"] * RATE) - sample,
        )
        for update in updates
        for turn in update["turns"]
    ]


@pytest.mark.parametrize(("seq_mark", "sample_mark"), [(31, 32), (32, 31)])
def test_counters_pass_the_marks(tmp_path: Path, seq_mark: int, sample_mark: int) -> None:
    near, low = went_on(tmp_path, "near", seq=400, sample=400 * STEP), (400, 400 * STEP)
    high = (2**seq_mark - BEFORE, 2**sample_mark // STEP * STEP - BEFORE * STEP)
    far = went_on(tmp_path, "far", seq=high[0], sample=high[1])
    expected, said = spoken(near, *low), spoken(far, *high)
    assert [turn[:2] for turn in said] == [turn[:2] for turn in expected]
    # Frames are cut in float seconds, as in diart: where they are may decide which side of a region's end one falls.
    assert np.abs(np.array([turn[2:] for turn in said]) - [turn[2:] for turn in expected]).max() <= 400
    assert far[-1]["seq"] > 2**seq_mark
    assert far[-1]["end"] * RATE > 2**sample_mark
    assert len({turn["speaker"] for update in far for turn in update["turns"]}) > 1
