"""Audio on links that leave the host: inside the messages, as few bytes as lose nothing, and only as far as somebody needs it.

A window of 5 s at 16 kHz is 320 kB as float32 and 160 kB as 16-bit PCM, which is exact for what was recorded that way at the stream's own
rate. Programs of other people get float32. Runs in every stage whose output link is TCP.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diart_mp.endpoints import leaves_host
from diart_mp.errors import UsageError
from diart_mp.messages import Array, Message
from diart_mp.runtime.chain import stage_class
from diart_mp.topology import Topology
from diart_mp.transport.ring import RingReader

FULL_SCALE = 32768.0  # of 16-bit PCM

Inline = Callable[[Message], Message]


def inline_of(topology: Topology, stage: str, endpoint: str, rings: RingReader) -> Inline | None:
    """What ``stage`` does to chunks before it gives them to a link at ``endpoint``; None where they stay as they are."""
    if not leaves_host(endpoint):
        return None
    if not _is_needed_after(topology, stage):
        return _without_audio
    if any(each.foreign for each in topology.stages[1:]):
        return rings.inline
    return lambda message: _narrowed(rings.inline(message))


def pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16] | None:
    """``samples`` as 16-bit PCM, None if that would change any of them by a single bit."""
    scaled = samples * np.float32(FULL_SCALE)
    if not (scaled.size and scaled.min() >= -FULL_SCALE and scaled.max() < FULL_SCALE):
        return None
    narrow = scaled.astype(np.int16)
    return narrow if np.array_equal(narrow, scaled) else None


def _narrowed(message: Message) -> Message:
    audio = message.fields.get("audio")
    if not isinstance(audio, np.ndarray) or audio.dtype != np.float32:
        return message
    narrow: Array | None = pcm16(audio)
    return message if narrow is None else message.with_fields({"audio": narrow})


def _without_audio(message: Message) -> Message:
    return message.changed({name: value for name, value in message.fields.items() if name != "audio"})


def _is_needed_after(topology: Topology, stage: str) -> bool:
    """Whether a later stage reads the audio; what is not known here may."""
    names = [each.name for each in topology.stages]
    for later in topology.stages[names.index(stage) + 1 :]:
        try:
            if later.foreign or "audio" in stage_class(later).consumes:
                return True
        except (UsageError, AttributeError):  # somebody's own stage, installed on its own host only
            return True
    return False
