"""Peers that speak another version of the protocol: who they are, told once each. Used by both ends of links."""

import socket

from diart_mp.errors import VersionError

_MOST = 100  # peers that are told of; their names come from outside


class Refusals:
    """What one end of a link, of stage ``name``, has to say of peers that it cannot understand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.host = socket.gethostname()[:64]
        self._told: set[tuple[str, int]] = set()
        self._notes: list[str] = []

    def add(self, who: str, error: VersionError) -> None:
        """``who`` has sent a message of another version."""
        if (who, error.version) in self._told or len(self._told) >= _MOST:
            return
        self._told.add((who, error.version))
        self._notes.append(
            f"{who} on {error.host or 'another host'} speaks protocol version {error.version}, {self._name} on {self.host} "
            f"version {error.known}: it is refused; upgrade the older one"
        )

    def notes(self) -> list[str]:
        """What there is to tell since the last call."""
        notes, self._notes = self._notes, []
        return notes
