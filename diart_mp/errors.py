"""The errors of diart-mp, one tree.

    DiartMpError                anything that ends with one clear line and a non-zero exit code
    ├── UsageError              wrong options or settings (exit code 2)
    ├── AudioError              an input that cannot be read or used
    ├── ModelError              a model that cannot be found, read or run
    ├── OutputError             an output that cannot be written
    ├── ProtocolError           bytes from outside that are not a valid message
    │   └── VersionError        a message of another version of the protocol
    ├── StaleAudioError         samples of the shared-memory ring that were overwritten meanwhile
    ├── DamagedAudioError       samples of the shared-memory ring that are not what was written
    └── StageError              a stage that cannot be started or kept running

The text of an error is for the person at the keyboard: what happened, with the numbers, the likely
cause and what to do, on one line. This module knows nothing of who catches it; every process uses it.
"""


class DiartMpError(Exception):
    """Base of all errors that are shown as one line without a traceback."""

    exit_code = 1


class UsageError(DiartMpError):
    """An option, setting or configuration file that makes no sense."""

    exit_code = 2


class AudioError(DiartMpError):
    """An audio source that cannot be opened, read or used."""


class ModelError(DiartMpError):
    """A model that cannot be found, downloaded, read or run."""


class OutputError(DiartMpError):
    """An output file or folder that cannot be written."""


class ProtocolError(DiartMpError):
    """A message from outside that breaks the protocol; the sender loses that message only."""


class VersionError(ProtocolError):
    """A message of protocol ``version`` from ``host`` (empty: it does not say), where version ``known`` is spoken."""

    def __init__(self, version: int, known: int, host: str) -> None:
        super().__init__(
            f"a message of protocol version {version}; this side speaks version {known}, so upgrade the older one"
        )
        self.version, self.known, self.host = version, known, host


class StaleAudioError(DiartMpError):
    """A range of the audio ring that has been overwritten, or a ring that is gone."""


class DamagedAudioError(DiartMpError):
    """A range of the audio ring whose checksum is not that of what was written."""


class StageError(DiartMpError):
    """A stage that does not start, or that was restarted too often."""
