"""What diart computed with the built-in pair of models, read from the shared folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from diart_mp.models.base import FloatArray

RATE, WINDOW = 16000, 80000  # samples per second, samples of a chunk
RUNS = ("sample_lat0.5_tau0.5_rho0.3_delta1.0", "trn05_lat2.0_tau0.5_rho0.1_delta0.2")
_RECORDINGS = {"sample.wav": "sample.wav", "trn05.wav": "ami_EN2004a.flac"}


class Golden:
    """Chunks of a recording with diart's scores, overlap-aware weights and embeddings of them."""

    def __init__(self, shared: Path, run: str) -> None:
        arrays = np.load(shared / "golden" / "steps" / f"{run}.npz")
        settings: dict[str, Any] = json.loads((shared / "golden" / "steps" / f"{run}.json").read_text())
        self.segmentation: FloatArray = arrays["segmentation"]
        self.weights: FloatArray = arrays["osp_weights"]
        self.embeddings: FloatArray = arrays["embedding_raw"]
        audio, rate = soundfile.read(shared / "data" / _RECORDINGS[settings["file"]], dtype="float32")
        assert rate == RATE
        left = round(settings["padding"][0] * RATE)
        starts = [round(float(start) * RATE) for start in arrays["start"]]
        padded = np.pad(audio, (left, starts[-1] + WINDOW - left - len(audio)))  # the last block is filled up too
        self.waveforms: FloatArray = np.stack([padded[start : start + WINDOW] for start in starts])
