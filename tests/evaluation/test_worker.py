"""A further process of ``tune`` ends with the one that started it, also in the middle of a model."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from diart_mp.config import Settings
from diart_mp.models.base import FloatArray, SegmentationModel
from diart_mp.runtime.local import Models

ROOT = Path(__file__).resolve().parents[2]


class Endless(SegmentationModel):
    """Never comes back; says before that it has begun."""

    sample_rate = 16_000

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        Path(os.environ["BEGUN"]).touch()
        while True:
            time.sleep(0.01)
            np.fft.rfft(waveforms)


def test_it_ends_in_the_middle_of_a_model(corpus: Path, tmp_path: Path) -> None:
    spec = {
        "speech_path": str(corpus / "audio"),
        "reference_path": str(corpus / "rttm"),
        "study_or_path": f"sqlite:///{tmp_path / 'study.db'}",
        "base": Settings().to_map(),
        "models": asdict(Models(segmentation=f"{__name__}:Endless", embedding="tests.fakes:ToneEmbedding")),
        "cache": str(tmp_path / "cache"),
        "num_iter": 5,
    }
    begun = tmp_path / "begun"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BEGUN": str(begun)}
    command = [sys.executable, "-m", "diart_mp.evaluation.worker"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        try:
            worker.stdin.write(json.dumps(spec) + "\n")
            worker.stdin.flush()
            while not begun.exists():
                assert worker.poll() is None
                time.sleep(0.01)
            worker.stdin.close()
            assert worker.wait(30) == 130
            assert worker.stderr.read() == ""
        finally:
            worker.kill()
