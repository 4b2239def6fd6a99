"""Converting a checkpoint of pyannote.audio: read with torch, described for this package's own graphs, and compared with torch.

What is here: what of a network those graphs can do, and the bounds of the comparison. Files and processes are unknown here. Runs in a
process of its own (``convert``), once per checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from diart_mp.errors import ModelError
from diart_mp.models.base import BoolArray, FloatArray
from diart_mp.models.converted import POWERSET, SEGMENTATION, TRUNKS, Converted
from diart_mp.models.pyannet import SAMPLE_RATE, SINC_STRIDE
from diart_mp.models.pyannote import PyannoteEmbedding, PyannoteSegmentation

MOST, MEAN = 1e-2, 1e-4
"""How far probabilities of a converted segmentation may be from torch's, at most and in the mean: normalisations amplify last bits."""
RELATIVE = 1e-3
"""Length of the difference of an embedding from torch's, as a share of its length: a cosine distance of 5e-7."""

_SECONDS = (5.0, 2.0)  # of the windows on which both are compared
_ACTIVATIONS: Mapping[str, str] = MappingProxyType({"Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"})
_FBANK: Mapping[str, Any] = MappingProxyType(
    {
        "num_mel_bins": 80,
        "frame_length": 25.0,
        "frame_shift": 10.0,
        "round_to_power_of_two": True,
        "snip_edges": True,
        "dither": 0.0,
        "window_type": "hamming",
        "use_energy": False,
        "fbank_centering_span": None,
    }
)


class Refused(Exception):  # noqa: N818  # it is no error: the network runs in torch
    """Why a checkpoint cannot be converted."""


def convert(checkpoint: Path, role: str) -> Converted:
    """Read, convert and compare a checkpoint.

    Raises:
        Refused: it has to run in torch.
        ModelError: it cannot be read, or is not for ``role``.

    """
    if role == "segmentation":
        scoring = PyannoteSegmentation(checkpoint)
        converted = described(scoring.network)
        compare_scores(scoring.network, converted)
    else:
        embedding = PyannoteEmbedding(checkpoint)
        converted = described(embedding.network)
        compare_embeddings(embedding, converted)
    return converted


def described(network: Any) -> Converted:
    """What our graphs need of a network; Refused where they cannot do what it does."""
    name, settings = type(network).__name__, network.hparams
    if name != SEGMENTATION and name not in TRUNKS:
        raise Refused(_only(f"{name} is none of {', '.join([SEGMENTATION, *TRUNKS])}"))
    if int(settings.sample_rate) != SAMPLE_RATE:
        raise Refused(_only(f"its sample rate is {settings.sample_rate}"))
    if "sincnet" in settings and settings.sincnet["stride"] != SINC_STRIDE:
        raise Refused(_only(f"the stride of its SincNet is {settings.sincnet['stride']}"))
    if name.startswith("WeSpeaker"):
        for key, value in _FBANK.items():
            if settings.get(key, value) != value:
                raise Refused(_only(f"its {key} is {settings[key]}"))
    weights = {key: value.float().numpy() for key, value in network.state_dict().items() if value.is_floating_point()}
    activation = ""
    if name == SEGMENTATION:
        activation = _ACTIVATIONS.get(type(network.activation).__name__, "")
        if not activation:
            raise Refused(_only(f"its last layer is a {type(network.activation).__name__}"))
        if network.specifications.powerset:
            weights[POWERSET] = _mapping(network.specifications)
    return Converted(name, SAMPLE_RATE, float(network.specifications.duration), activation, weights)


def compare_scores(network: Any, converted: Converted) -> None:
    """Refused unless the scores are torch's, as probabilities."""
    from diart_mp.models.pyannet_openvino import OpenVinoPyanNet

    try:
        ours = OpenVinoPyanNet(converted.weights, activation=converted.activation)
        for seconds in _SECONDS:
            waveforms = _windows(seconds)
            with torch.inference_mode():
                wanted = network(torch.from_numpy(waveforms).unsqueeze(1)).numpy()
            found = ours(waveforms)
            if converted.activation == "log_softmax":
                wanted, found = np.exp(wanted), np.exp(found)
            off = np.abs(found - wanted)
            if not (off.max() <= MOST and off.mean() <= MEAN):
                raise Refused(_only(f"scores are off by up to {off.max():.1g}, {off.mean():.1g} in the mean"))
    except (KeyError, ValueError, RuntimeError) as error:
        raise Refused(_only(f"{type(error).__name__}: {error}")) from error


def compare_embeddings(model: PyannoteEmbedding, converted: Converted) -> None:
    """Refused unless the embeddings are torch's."""
    try:
        ours = converted.embedding()
        for seconds in _SECONDS:
            waveforms = _windows(seconds)
            weights, active = _weights(len(waveforms))
            wanted, found = model(waveforms, weights, active), ours(waveforms, weights, active)
            off = np.linalg.norm(found - wanted, axis=2) / np.linalg.norm(wanted, axis=2)
            if not off.max() <= RELATIVE:
                raise Refused(_only(f"embeddings are off by up to {off.max():.1g} of their length"))
    except (KeyError, ValueError, RuntimeError, ModelError) as error:
        raise Refused(_only(f"{type(error).__name__}: {error}")) from error


def _only(reason: str) -> str:
    return f"OpenVINO's graphs do not give what it computes ({' '.join(reason.split())[:200]})"


def _mapping(specifications: Any) -> FloatArray:
    from pyannote.audio.utils.powerset import Powerset

    powerset: Any = Powerset(len(specifications.classes), specifications.powerset_max_classes)
    return np.asarray(powerset.mapping, np.float32)


def _windows(seconds: float) -> FloatArray:
    """Voices made of harmonics that glide and pause, two at a time in one window, over noise; and noise alone."""
    rng, time = np.random.default_rng(0), np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voices = []
    for pitch in (110.0, 190.0):  # Hz
        phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(3 * time))) / SAMPLE_RATE
        voice = sum(np.sin(number * phase) / number for number in range(1, 25))
        voices.append(voice * (np.sin(2 * np.pi * time / 1.7 + pitch) > 0) * (1 + np.sin(2 * np.pi * 4 * time)))
    noise = rng.standard_normal((3, len(time)))
    mixed = [0.05 * voices[0] + 1e-3 * noise[0], 0.1 * (voices[0] + voices[1]) + 1e-2 * noise[1], 0.1 * noise[2]]
    return np.stack(mixed).astype(np.float32)


def _weights(count: int) -> tuple[FloatArray, BoolArray]:
    """Weights of three speakers, as many frames as the built-in segmentation has for 5 s."""
    weights = np.random.default_rng(1).random((count, 293, 3), dtype=np.float32)
    weights[:, 150:, 1] = 0
    return weights, np.ones((count, 3), np.bool_)
