"""Voice activity as a second pipeline: turns of one speaker where anybody hums, whenever a stage was killed."""

from pathlib import Path

import numpy as np

from diart_mp.config import Settings
from diart_mp.runtime.chain import chain_of, check_chain
from diart_mp.runtime.local import default_stages
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, run, set_brake

SETTINGS = Settings.from_seconds(latency=2.0)


def test_speech_is_where_somebody_hums_and_kills_change_nothing(tmp_path: Path) -> None:
    audio = tmp_path / "hum.wav"
    truth = conversation(audio, seconds=15.0, seed=3)
    stages = check_chain(chain_of("capture,segmentation,vad", default_stages(TONE_MODELS)))
    calm = run(audio, tmp_path / "calm", settings=SETTINGS, models=TONE_MODELS, stages=stages)
    kills = [Kill(3, ("vad",)), Kill(10, ("vad", "segmentation"))]
    set_brake(tmp_path / "brake", 0.02)  # or all is said before anything can be killed
    slow = {"DIART_MP_FAULTS": f"vad:slow={tmp_path / 'brake'}"}
    killed = run(
        audio,
        tmp_path / "killed",
        settings=SETTINGS,
        models=TONE_MODELS,
        stages=stages,
        kills=kills,
        max_in_flight=4,
        environment=slow,
    )
    assert killed.kills == 3
    assert killed.files == calm.files
    assert killed.shown == list(range(calm.summary.results))
    expected, found = np.zeros(1500, bool), np.zeros(1500, bool)  # each 10 ms
    for start, end, _ in truth:
        expected[round(100 * start) : round(100 * end)] = True
    for line in calm.files["hum.rttm"].decode().splitlines():
        fields = line.split()
        assert fields[7] == "speech"
        found[round(100 * float(fields[3])) :][: round(100 * float(fields[4]))] = True
    assert (expected & found).sum() > 0.9 * expected.sum()
    assert (found & ~expected).sum() < 0.05 * expected.sum()
