"""Named fault points: how tests make a stage die, hang or crawl at an exact moment. Off unless DIART_MP_FAULTS is set.

    DIART_MP_FAULTS="embedding:crash@41,segmentation:slow=1.0"

A fault is STAGE:ACTION, optionally with =VALUE and with @SEQ (only for that chunk). Actions: ``crash`` (abort), ``exit`` (with
code 1), ``raise``, ``hang`` (for ever) and ``slow`` (sleep VALUE seconds per chunk; a VALUE that names a file is read anew
each time, so that a test can change it during a run). Runs in stages, right before ``process``.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diart_mp.errors import UsageError

VARIABLE = "DIART_MP_FAULTS"
_ACTIONS = ("crash", "exit", "raise", "hang", "slow")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``seq`` None means every chunk."""

    stage: str
    action: str
    value: str
    seq: int | None

    def strike(self, chunks: int) -> None:
        """Do what the fault is, to a batch with that many chunks that it is meant for."""
        if self.action == "crash":
            os.abort()
        elif self.action == "exit":
            os._exit(1)
        elif self.action == "raise":
            msg = f"fault point {self.stage}"
            raise RuntimeError(msg)
        elif self.action == "slow":
            time.sleep(chunks * self._seconds())
        while self.action == "hang":
            time.sleep(3600)

    def _seconds(self) -> float:
        path = Path(self.value)
        return float(path.read_text() if path.is_absolute() else self.value)


def faults_of(stage: str) -> list[Fault]:
    """The faults that the environment asks for in ``stage``; UsageError if they cannot be understood."""
    texts = [text.strip() for text in os.environ.get(VARIABLE, "").split(",") if text.strip()]
    return [fault for fault in map(_parse, texts) if fault.stage == stage]


def strike(faults: Iterable[Fault], seqs: Sequence[int]) -> None:
    """Let those faults strike that are meant for one of the chunks ``seqs``."""
    for fault in faults:
        chunks = sum(fault.seq in (None, seq) for seq in seqs)
        if chunks:
            fault.strike(chunks)


def _parse(text: str) -> Fault:
    stage, _, rest = text.partition(":")
    rest, _, seq = rest.partition("@")
    action, _, value = rest.partition("=")
    if not stage or action not in _ACTIONS or (seq and not seq.isdecimal()) or (action == "slow") != bool(value):
        msg = f"{VARIABLE}: '{text}' is not STAGE:ACTION[=VALUE][@SEQ] with one of {', '.join(_ACTIONS)}"
        raise UsageError(msg)
    return Fault(stage, action, value, int(seq) if seq else None)
