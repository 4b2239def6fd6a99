"""A small measurement made by hand, for the tests of what is derived from one."""

from diart_mp.evaluation.bench import ChunkTimes, Hop, Measurement
from diart_mp.evaluation.processes import Usage

MS = 1_000_000  # ns
BASE = 77_000 * MS  # what the clock says at the beginning


def chunk(seq: int, captured: float, sent: float, answered: float, *hops: Hop, stream: str = "talk") -> ChunkTimes:
    """A chunk whose times are ms after ``BASE``."""
    return ChunkTimes(stream, seq, _at(captured), _at(sent), hops, _at(answered))


def hop(stage: str, arrived: float, started: float, done: float, batch: int = 1, replica: int = 0) -> Hop:
    """A stay in a stage, in ms after ``BASE``."""
    return Hop(stage, replica, _at(arrived), _at(started), _at(done), batch)


def two_chunks() -> Measurement:
    """Two chunks of two streams through two stages: together in the first one, one after the other in the second."""
    return Measurement(
        chunks=(
            chunk(0, 0, 1, 30, hop("first", 2, 4, 10, 2), hop("second", 12, 12, 20)),
            chunk(3, 0.5, 1.5, 42, hop("first", 2.5, 4, 11, 2), hop("second", 13, 20, 40), stream="call"),
        ),
        pids={"capture": 100, "first": 101, "second": 102},
        usage={
            "capture": Usage(0.5, 40.0),
            "first": Usage(1.0, 200.0),
            "second": Usage(0.25, 60.0),
            "supervisor": Usage(0.125, 30.0),
        },
        start_s=0.75,
        first_s=1.25,
        wall_s=0.05,
        audio_s=10.0,
    )


def _at(ms: float) -> int:
    return BASE + round(ms * MS)
