"""Who may be named at all: the people enrolled with the stages behind the gateway, for clients that want only some of them named.

Knows nothing of voices or streams: a stage gives the names, and leaves out those that a stream's settings do. Runs in the gateway.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from diart_mp.config import EVERYBODY
from diart_mp.errors import UsageError
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import Topology
from diart_mp.web.protocol import ClientError, Code


class Enrolled:
    """The names in the file of speakers of ``topology``'s stages, read once, as those stages do."""

    def __init__(self, topology: Topology) -> None:
        options = [stage.options.get("speakers") for stage in topology.stages]
        self._files = [Path(each) for each in options if isinstance(each, str)]
        self._names: frozenset[str] | None = None
        with contextlib.suppress(UsageError):  # it is on the stage's host alone: then nobody can be missed here
            self._names = frozenset(name for file in self._files for name in EnrolledSpeakers.load(file).voices)

    def check(self, names: Sequence[str]) -> None:
        """ClientError for a name that no stage will ever give: it is mistyped, and its owner would wait for it in vain."""
        if not names or tuple(names) == EVERYBODY:
            return
        if not self._files:
            msg = "known_speakers: nobody is enrolled at this server (diart-mp serve --speakers FILE)"
            raise ClientError(Code.BAD_SETTINGS, msg)
        missing = [] if self._names is None else [name for name in names if name not in self._names]
        if missing:
            msg = f"known_speakers: nobody called {missing[0]!r:.80} is enrolled at this server"
            raise ClientError(Code.BAD_SETTINGS, msg)
