"""How often, and for how long in all, what was said of a stream was taken back.

What counts is what a reader of the labels would notice: a revision that says the same again is none. Knows nothing of references or
scores. Runs in the command.
"""

from collections.abc import Mapping, Sequence

from diart_mp.turns import Turn, Update


def revisions(updates: Sequence[Update]) -> tuple[int, int]:
    """The number of revisions that change something, and how many samples in all they change, of one stream's updates."""
    known, told, count, changed = list[Turn](), 0, 0, 0
    for update in updates:
        again = max(0, min(told, update.end) - update.start)  # a region that was told already
        told = max(told, update.end)
        known += update.turns
        if update.revision is not None:
            names, start = dict(update.revision.renamed), max(update.revision.start, 0)
            before, recent = _cut(known, 0, start), _cut(known, start, told)
            after = _cut(update.revision.turns, start, told)
            again += _renamed(before, names) + _differing(recent, after)
            known = [Turn(turn.start, turn.end, names.get(turn.speaker, turn.speaker)) for turn in before]
            known += update.revision.turns
        count += again > 0
        changed += again
    return count, changed


def _cut(turns: Sequence[Turn], start: int, end: int) -> list[Turn]:
    cut = (Turn(max(turn.start, start), min(turn.end, end), turn.speaker) for turn in turns)
    return [turn for turn in cut if turn.end > turn.start]


def _renamed(turns: Sequence[Turn], names: Mapping[str, str]) -> int:
    """Samples in which somebody has another name than before."""
    now = [Turn(turn.start, turn.end, names.get(turn.speaker, turn.speaker)) for turn in turns]
    return _differing(turns, now) if names else 0


def _differing(one: Sequence[Turn], other: Sequence[Turn]) -> int:
    """Samples in which not the same people talk."""
    events = [(turn.start, side, turn.speaker, 1) for side, turns in enumerate((one, other)) for turn in turns]
    events += [(turn.end, side, turn.speaker, -1) for side, turns in enumerate((one, other)) for turn in turns]
    talking: dict[str, list[int]] = {}
    unequal, position, total = set[str](), 0, 0
    for time, side, speaker, change in sorted(events):
        if unequal:
            total += time - position
        position = time
        depths = talking.setdefault(speaker, [0, 0])
        depths[side] += change
        if (depths[0] > 0) == (depths[1] > 0):
            unequal.discard(speaker)
        else:
            unequal.add(speaker)
    return total
