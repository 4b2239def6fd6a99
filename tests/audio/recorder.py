"""Record from a microphone in a process of its own, as the sound libraries read their environment only once.

Usage: recorder.py OPTIONS OUTPUT, with OPTIONS in JSON (of MicrophoneSource, and ``deaf_s``). Says "listening" after
the first samples; records until its standard input ends and 0.5 s more; writes samples and findings as .npz. If there
is an AudioError, its text is the last output. ``deaf_s``: the time for which nothing is read once it gets loud.
"""

import json
import select
import sys
import time
from typing import Any

import numpy as np

from diart_mp.audio.microphone import MicrophoneSource
from diart_mp.errors import AudioError


def record(source: MicrophoneSource, deaf_s: float) -> dict[str, Any]:
    """Samples, gaps and their reasons, and for each block where it ends (samples) and when that was captured (s)."""
    blocks: list[np.ndarray] = []
    clock: list[tuple[int, float]] = []
    samples = 0
    last: float = np.inf
    while samples < last:
        inputs = [source.fileno()] + ([sys.stdin.fileno()] if last == np.inf else [])
        ready, _, _ = select.select(inputs, [], [])
        if sys.stdin.fileno() in ready:
            last = samples + source.rate // 2
        block = source.read()
        if block is None or len(block) == 0:
            continue
        samples += len(block)
        blocks.append(block)
        clock.append((samples, source.read_time))
        if len(blocks) == 1:
            say("listening")
        if deaf_s and np.abs(block).max() > 0.1:
            time.sleep(deaf_s)
            deaf_s = 0
    gaps = source.gaps()
    return {
        "samples": np.concatenate(blocks),
        "clock": np.array(clock),
        "gaps": np.array([(gap.position, gap.samples) for gap in gaps]).reshape(-1, 2),
        "reasons": np.array([gap.reason for gap in gaps]),
    }


def say(line: str) -> None:
    """To the process that started this one."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """See the text of the module."""
    options = json.loads(sys.argv[1])
    deaf_s = options.pop("deaf_s", 0)
    try:
        with MicrophoneSource(**options) as source:
            found = record(source, deaf_s)
            assert source.live
            assert source.fileno() >= 0
        source.close()
        assert source.read() is None
    except AudioError as error:
        say(str(error))
    else:
        np.savez(sys.argv[2], **found, input_rate=source._input_rate)


if __name__ == "__main__":
    main()
