"""A live stream that is too fast for its pipeline: chunks are skipped, audio is not, and it is over when the load is gone."""

import json
from pathlib import Path

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline
from diart_mp.topology import Job, SourceConfig
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import set_brake

SETTINGS = Settings.from_seconds()
SECONDS = 15.0
LOADED_S = 8.5
WINDOW_MS = 5000.0


def test_overloaded_live_stream_keeps_up_without_holes(tmp_path: Path) -> None:
    slowness = 4.0  # times real time
    audio = tmp_path / "hum.wav"
    conversation(audio, seconds=SECONDS, seed=8)
    brake = tmp_path / "brake"
    set_brake(brake, slowness * SETTINGS.step / SETTINGS.rate)
    source = SourceConfig(kind="paced", name="hum", path=str(audio))
    job = Job(sources=(source,), settings=SETTINGS, output=str(tmp_path / "out"), formats=("jsonl",))
    updates: list[dict[str, float]] = []

    def on_event(event: dict[str, object]) -> None:
        if event["event"] == "result":
            update = event["update"]
            assert isinstance(update, dict)
            updates.append(update)
            if update["end"] > LOADED_S:
                set_brake(brake, 0)

    faults = {"DIART_MP_FAULTS": f"embedding:slow={brake}"}
    with LocalPipeline(job, TONE_MODELS, on_event=on_event, environment=faults) as pipeline:
        summary = pipeline.run()
    loaded = [update["latency_ms"] for update in updates if update["end"] <= LOADED_S]
    relaxed = [update["latency_ms"] for update in updates if update["end"] > LOADED_S + 4]
    assert summary.skipped >= (LOADED_S - 5) / 0.5 * (1 - 1 / slowness) - 4
    assert max(loaded) < WINDOW_MS
    assert max(relaxed) < WINDOW_MS / 10
    ends = [update["end"] for update in updates]
    assert [update["start"] for update in updates] == [0.0, *ends[:-1]]
    assert ends[-1] >= SECONDS
    assert summary.gaps_s == 0
    lines = (tmp_path / "out" / "hum.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(len(updates)))
