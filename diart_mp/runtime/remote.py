"""What the supervisor knows of stages that somebody else has started, on this host or another.

They report to the endpoint ``report`` of the topology, in the words of the stages that the supervisor starts itself: ready, beat, event,
fatal. It can neither restart nor kill them; it sees that one is there, is gone, or is there again. Runs in the supervisor.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diart_mp.places import label
from diart_mp.topology import Topology
from diart_mp.transport.link import identity_of

_GONE_S = 3.0  # without a beat from which a stage counts as gone
_AWAITED_S = 5.0  # after which people are told whom the run waits for
_TOLD = ("done", "busy_s", "queue", "waiting", "compute_s")  # numbers of a beat


@dataclass(slots=True)
class _Remote:
    """One stage elsewhere as far as it has been heard."""

    label: str
    place: str
    epoch: int = 0
    heard_at: float | None = None  # monotonic s; None: not there
    told_gone: bool = False
    beat: dict[str, Any] = field(default_factory=dict)


class RemoteStages:
    """Keeps account of the stages of a topology that have a place of their own."""

    def __init__(self, topology: Topology, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._await_from = clock()
        self._awaited = bool(topology.report)  # whether there is still to be said who has never been there
        self._stages = {
            (stage.name, replica): _Remote(label(stage, replica), stage.place_of(replica))
            for stage in topology.stages
            for replica in range(stage.replicas)
            if stage.place_of(replica) and not stage.foreign
        }

    def knows(self, identity: bytes, message: Mapping[str, Any]) -> bool:
        """Whether a message comes from such a stage, from its newest process, and its socket says the same."""
        name, replica, epoch = message.get("stage"), message.get("replica"), message.get("epoch")
        if not (type(name) is str and type(replica) is int and type(epoch) is int):
            return False
        known = self._stages.get((name, replica))
        return (
            known is not None
            and (epoch >= known.epoch or self._is_gone(known))
            and identity.removesuffix(b"/beat") == identity_of(name, replica, epoch)
        )

    def take(self, message: Mapping[str, Any]) -> tuple[str, bool]:
        """What a message means: a line for the user or "", and whether what was given to an earlier process is lost."""
        known = self._stages[message["stage"], message["replica"]]
        if message["kind"] == "fatal":
            known.heard_at = None
            return f"{known.label} at {known.place} cannot go on: {message.get('text')}", False
        if message["kind"] == "beat":
            known.beat = {name: message.get(name) for name in _TOLD if _is_number(message.get(name))}
            counters = message.get("counters")
            if isinstance(counters, dict):
                known.beat["counters"] = {str(name): many for name, many in counters.items() if _is_number(many)}
        if message["kind"] not in ("beat", "ready"):
            return "", False
        back = known.heard_at is None or self._is_gone(known)
        cut = back and known.epoch != 0  # what was on its way to or from it is lost
        again = known.epoch not in (0, message["epoch"])
        known.epoch, known.heard_at, known.told_gone = message["epoch"], self._clock(), False
        if again:
            return f"{known.label} at {known.place} was started again", True
        return (f"{known.label} at {known.place} is there{' again' if cut else ''}" if back else ""), cut

    def absent(self) -> Iterator[str]:
        """Lines for the user, once each: who has gone, and stages without which nothing goes on that have not come at all."""
        for known in self._stages.values():
            if self._is_gone(known) and not known.told_gone:
                known.told_gone = True
                yield f"{known.label} at {known.place} is gone: nothing heard of it for {_GONE_S:.0f} s"
        if self._awaited and self._clock() - self._await_from > _AWAITED_S:
            self._awaited = False
            came = {name for (name, _), known in self._stages.items() if known.epoch}
            for (name, _), known in self._stages.items():
                if name not in came:
                    yield f"waiting for {known.label} at {known.place}; there: diart-mp stage {known.label} --topology FILE"

    def status(self) -> list[dict[str, Any]]:
        """All of them, as plain values."""
        return [
            {
                "stage": each.label,
                "place": each.place,
                "epoch": each.epoch,
                "there": each.heard_at is not None and not self._is_gone(each),
                **{name: each.beat.get(name) for name in (*_TOLD, "counters")},
            }
            for each in self._stages.values()
        ]

    def _is_gone(self, known: _Remote) -> bool:
        return known.heard_at is not None and self._clock() - known.heard_at > _GONE_S


def _is_number(value: Any) -> bool:
    """Whether what another host says can be reckoned with."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
