"""Sabotage for a negative control: the owner acknowledges results before they are written.

The journal keeps lines back, checkpoints do not wait for them, and a new owner goes on behind the checkpoint. Python imports
this by its name in every process whose PYTHONPATH has this folder.
"""

import sys
from typing import Any

_KEPT_BACK = 60  # lines: more than there are results between two checkpoints on disk


class _Finder:
    """Patches journal, ledger and stream once all have been imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        journal = sys.modules.get("diart_mp.runtime.journal")
        ledger = sys.modules.get("diart_mp.runtime.ledger")
        stream = sys.modules.get("diart_mp.runtime.stream")
        if hasattr(stream, "OwnedStream"):
            sys.meta_path.remove(self)
            stream._SAVE_S = 0.0  # type: ignore[union-attr]  # so that every kill finds a checkpoint ahead of the journal
            _sabotage(journal.Journal, ledger.Ledger)  # type: ignore[union-attr]


def _sabotage(journal: Any, ledger: Any) -> None:
    append, load, begin = journal.append, journal.load, ledger.__init__

    def late_append(self: Any, result: dict[str, Any]) -> None:
        kept = self.__dict__.setdefault("kept", [])
        kept.append(result)
        if len(kept) > _KEPT_BACK:
            append(self, kept.pop(0))

    def trusting_begin(self: Any, **values: Any) -> None:
        begin(self, **values)
        self.acknowledged = max(self.acknowledged, self.checkpoint.seq)

    def trusting_load(self: Any) -> Any:
        whole, self.lines = self.lines, [{"seq": 1_000_000}]  # whatever the checkpoint covers counts as written
        position, self.lines = load(self), whole
        return position

    journal.append, journal.load = late_append, trusting_load
    ledger.__init__ = trusting_begin


sys.meta_path.insert(0, _Finder())
