"""Bits of the shared memory that change under the pipeline: found, counted, told, and never turned into other turns."""

import json
import random
from pathlib import Path

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline
from diart_mp.transport.ring import PREFIX, ring_directory
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Run, run, set_brake

WINDOWS = 10  # steps of a window: so far does a chunk that was refused reach
HEADER = 4096  # bytes
FLIPS = 3


class Flips:
    """Changes a bit of samples that are in flight, three times, far from each other, while segmentation is slow."""

    def __init__(self, seed: int, brake: Path) -> None:
        self._chance, self._brake = random.Random(seed), brake
        self.at: list[int] = []  # results so far
        self.counted = 0

    def __call__(self, pipeline: LocalPipeline, so_far: Run) -> None:
        beats = pipeline.supervisor.beats()
        self.counted = sum(beat["counters"].get("damaged", 0) for beat in beats.values() if "counters" in beat)
        due = 8 + 20 * len(self.at)
        if len(self.at) == FLIPS:
            set_brake(self._brake, 0)
        elif len(so_far.shown) >= due:
            (ring,) = ring_directory().glob(f"{PREFIX}{pipeline.directory.name}-*")
            self._flip(ring)
            self.at.append(len(so_far.shown))

    def _flip(self, path: Path) -> None:
        """One bit of a sample that the newest chunks have, and have it once: the mirror of it stays as it is."""
        with path.open("r+b") as ring:
            words = [int.from_bytes(ring.read(8), "little") for _ in range(8)]
            capacity, head = words[2], words[5]
            sample = (head - 8000 + self._chance.randrange(4000)) % capacity
            for place in (sample, sample + capacity)[: 2 if sample < words[3] else 1]:
                ring.seek(HEADER + 4 * place + 2)
                changed = ring.read(1)[0] ^ 1 << self._chance.randrange(8)
                ring.seek(HEADER + 4 * place + 2)
                ring.write(bytes([changed]))


def test_flipped_samples_are_refused_and_the_rest_is_right(tmp_path: Path) -> None:
    audio, brake = tmp_path / "hum.wav", tmp_path / "brake"
    conversation(audio, seconds=45.0, seed=3)
    settings = Settings.from_seconds()
    calm = run(audio, tmp_path / "calm", settings=settings, models=TONE_MODELS)
    set_brake(brake, 0.05)
    flips = Flips(5, brake)
    faults = {"DIART_MP_FAULTS": f"segmentation:slow={brake}"}
    done = run(
        audio,
        tmp_path / "flipped",
        settings=settings,
        models=TONE_MODELS,
        environment=faults,
        each_step=flips,
        max_in_flight=16,  # so that what is flipped is counted long before the end
    )
    assert done.summary.restarts == 0
    assert len(flips.at) == FLIPS
    refused = {event["seq"] for event in done.events if event["event"] == "error"}
    assert refused
    assert all("checksum differs" in text for text in done.summary.failures)
    assert flips.counted > 0  # as of the last look before the end
    expected = [json.loads(line) for line in calm.files["hum.jsonl"].splitlines()]
    lines = [json.loads(line) for line in done.files["hum.jsonl"].splitlines()]
    touched = {seq + later for seq in refused for later in range(WINDOWS + 1)}
    right = [seq for seq in range(len(expected)) if seq not in touched]
    assert len(right) > len(expected) / 4
    assert [lines[seq]["turns"] for seq in right] == [expected[seq]["turns"] for seq in right]
