"""One stream through diart, for the benchmarks: run by the Python of diart's own environment (``diart_env.py``), by nobody else.

    PYTHON benchmarks/diart_run.py AUDIO --weights FOLDER [--embedding NAME:FILE] [--rttm FILE] [--live] ...

It is diart's own ``diart.stream`` but for the arguments: the built-in models (or an embedding of pyannote.audio from FILE) are handed
to diart's SegmentationModel and EmbeddingModel, times are noted, and nothing is drawn. Writes "ready" as soon as the models
are loaded and with --live waits for a line with the moment (monotonic s) at which playback begins; at the end
one JSON object: how many results there were, how late they were, and how long all took from "ready" on.
"""

import argparse
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np


def import_diart() -> Any:
    """Diart beside a torch that torchaudio's compiled extension does not know; nothing that needs it is used."""
    extension: Any = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = extension._IS_RIR_AVAILABLE = False
    extension.lazy_import_sox_ext = lambda: types.SimpleNamespace(is_available=lambda: False)
    extension._load_lib = lambda _: False
    extension.fail_if_no_align = extension.fail_if_no_rir = lambda function: function
    sys.modules["torchaudio._extension"] = extension
    sys.modules["sounddevice"] = types.ModuleType("sounddevice")  # needs a C library, and no microphone is used
    import diart
    import diart.inference
    import diart.models
    import diart.sources

    return diart


def segmentation(weights: Path) -> Any:
    """The built-in network, as pyannote.audio makes it."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet
    from safetensors.torch import load_file

    net = PyanNet(sincnet={"stride": 10}, lstm={"num_layers": 4, "monolithic": True}, linear={"num_layers": 2})
    net.specifications = Specifications(
        Problem.MULTI_LABEL_CLASSIFICATION, Resolution.FRAME, 5.0, classes=["a", "b", "c"]
    )
    net.setup()
    net.load_state_dict(load_file(next(weights.glob("segmentation-*.safetensors"))))
    return net


def ge2e(weights: Path) -> Any:
    """The built-in embedding as a network that diart can call: waveforms (rows, 1, samples), weights (rows, frames)."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    class Ge2e(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = nn.Linear(256, 256)
            self.mel = torch.from_numpy(mel_basis())
            self.window = torch.hann_window(400)

        def forward(self, waveforms: Any, weights: Any = None) -> Any:
            spectrum = torch.stft(
                waveforms[:, 0], 400, 160, window=self.window, pad_mode="constant", return_complex=True
            )
            mel = (self.mel @ (spectrum.real**2 + spectrum.imag**2)).transpose(1, 2)  # (rows, frames, 40)
            rows, samples = waveforms.shape[0], waveforms.shape[2]
            starts = list(range(0, mel.shape[1] - 160 + 78, 77))
            if (samples - starts[-1] * 160) / 25600 < 0.75 and len(starts) > 1:
                starts.pop()
            mel = nn.functional.pad(mel, (0, 0, 0, max(0, starts[-1] + 160 - mel.shape[1])))
            partials = torch.stack([mel[:, start : start + 160] for start in starts], 1).flatten(0, 1)
            hidden = self.lstm(partials)[1][0][-1]
            each = nn.functional.normalize(torch.relu(self.linear(hidden)), dim=1).view(rows, len(starts), 256)
            shares = torch.stack([self.share(weights, start, samples / 16000) for start in starts], 1)
            return (each * shares.unsqueeze(2)).sum(1) / shares.sum(1, keepdim=True)

        @staticmethod
        def share(weights: Any, start: int, seconds: float) -> Any:
            frames = weights.shape[1]
            low, high = round(0.01 * start / seconds * frames), round((0.01 * start + 1.6) / seconds * frames)
            return weights[:, low : max(high, low + 1)].mean(1)

    net = Ge2e()
    net.load_state_dict(load_file(next(weights.glob("embedding-*.safetensors"))), strict=False)
    return net


def mel_basis() -> Any:
    """As ``librosa.filters.mel`` gives it for 16 kHz, 400 samples and 40 bands."""
    import librosa

    return librosa.filters.mel(sr=16000, n_fft=400, n_mels=40).astype(np.float32)


def pyannote_embedding(name: str, file: Path) -> Any:
    """A network of pyannote.audio by the name of its class, with the weights of a checkpoint."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models import embedding

    net = getattr(embedding, name)()
    net.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, 5.0)
    net.load_state_dict(torch.load(file, weights_only=False)["state_dict"], strict=False)
    return net


class Clock:
    """Plays the blocks of a source at the pace of the clock, and notes how late each result is."""

    def __init__(self, block_s: float, *, live: bool, tell: bool) -> None:
        self.block_s, self.live = block_s, live
        self.begin = time.monotonic()
        self.blocks = 0
        self.results: list[float] = []
        self.late_ms: list[float] = []
        self._tell = tell

    def paced(self, on_next: Any) -> Any:
        """``on_next`` of the source's stream, no earlier than the block would have been heard."""

        def at_its_time(block: Any) -> None:
            self.blocks += 1
            if self.live:
                time.sleep(max(0.0, self.due() - time.monotonic()))
            on_next(block)

        return at_its_time

    def due(self) -> float:
        """When the last sample of the newest block is captured."""
        return self.begin + self.blocks * self.block_s

    def result(self, _: Any) -> None:
        """Diart has said something."""
        now = time.monotonic()
        if self._tell and not self.results:
            print("first", flush=True)
        self.results.append(now)
        self.late_ms.append(1000 * (now - self.due()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("audio", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the built-in weights")
    parser.add_argument("--embedding", default="", help="NAME:FILE, a class of pyannote.audio and its checkpoint")
    parser.add_argument("--rttm", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--delta-new", type=float, default=0.35)
    parser.add_argument("--live", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    diart = import_diart()
    import torch

    torch.set_num_threads(options.threads)
    name, _, file = options.embedding.partition(":")
    embed = (lambda: pyannote_embedding(name, Path(file))) if name else (lambda: ge2e(options.weights))
    config = diart.SpeakerDiarizationConfig(
        segmentation=diart.models.SegmentationModel(lambda: segmentation(options.weights)),
        embedding=diart.models.EmbeddingModel(embed),
        latency=options.latency,
        tau_active=0.5,
        rho_update=0.3,
        delta_new=options.delta_new,
        device=torch.device("cpu"),
    )
    pipeline = diart.SpeakerDiarization(config)
    padding = config.get_file_padding(options.audio)
    source = diart.sources.FileAudioSource(options.audio, config.sample_rate, padding, config.step)
    pipeline.set_timestamp_shift(-padding[0])
    inference = diart.inference.StreamingInference(pipeline, source, do_profile=False, show_progress=False)
    clock = Clock(config.step, live=options.live, tell=not options.live)
    inference.attach_hooks(clock.result)
    source.stream.on_next = clock.paced(source.stream.on_next)
    print("ready", flush=True)
    ready = time.monotonic()
    if options.live:
        clock.begin = float(sys.stdin.readline())
    prediction = inference()
    work_s = time.monotonic() - ready
    if options.rttm is not None:
        with options.rttm.open("w") as sink:
            prediction.write_rttm(sink)
    late = clock.late_ms if options.live else []
    print(json.dumps({"chunks": len(clock.results), "late_ms": late, "work_s": work_s}), flush=True)


if __name__ == "__main__":
    main()
