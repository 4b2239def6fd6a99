"""The file formats, as text: what is written for an update and for a turn that became final.

``FORMATS`` lists them; ``module:Class`` names one of the user's own, a ``Format`` or an ``outputs.output.Output``. A format object belongs
to one stream (subtitles number their cues) and only ever adds text: each piece it gives consists of whole lines or cues. Knows nothing
of files. Runs in the owner of a stream.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias, TypeVar

from diart_mp.errors import UsageError
from diart_mp.outputs.events import update_to_line
from diart_mp.outputs.names import one_field, one_line
from diart_mp.outputs.output import Output, import_output
from diart_mp.turns import Turn, Update


class Format:
    """One stream's output in one format; a format fills in what it writes and leaves the rest empty.

    One of your own is a subclass, given as ``--format my_package:Ctm``. When called: ``update`` with each update, by ascending ``seq``; after
    it ``turn`` with each turn that has become final, sorted by start; more turns at the end. What is given is in the file
    when the next update comes. After a restart of its owner, and after a revision, a new object is asked again from the first update or turn on,
    and has to say the same of the same: no clock, no random names.
    The classic mistake: text that does not end in a line break, which a file that is cut there would leave half a line.
    """

    extension: ClassVar[str]
    header: ClassVar[str] = ""
    of_turns: ClassVar[bool] = True  # the file is its header and its turns, and is written again if these are revised

    def __init__(self, stream: str, rate: int, *, recorded: bool) -> None:
        """``rate``: samples per second. ``recorded``: leave out what differs from run to run (measured latencies)."""
        self.stream = stream
        self.rate = rate
        self.recorded = recorded

    def update(self, update: Update) -> str:
        """Text for an update as it comes."""
        return ""

    def turn(self, turn: Turn) -> str:
        """Text for the next final turn."""
        return ""


class Rttm(Format):
    """NIST Rich Transcription Time Marked: ten fields separated by spaces.

    ``SPEAKER <uri> 1 <start> <duration> <NA> <NA> <label> <NA> <NA>``, seconds with 3 digits. A field cannot hold
    whitespace: in the stream's name (uri) and in labels each one is written as ``_``.
    """

    extension = ".rttm"

    def turn(self, turn: Turn) -> str:
        """One SPEAKER line."""
        start, duration = turn.start / self.rate, (turn.end - turn.start) / self.rate
        uri, label = one_field(self.stream), one_field(turn.speaker)
        return f"SPEAKER {uri} 1 {start:.3f} {duration:.3f} <NA> <NA> {label} <NA> <NA>\n"


class JsonLines(Format):
    """One JSON object per update, revisions included, see ``outputs.events``; ``latency_ms`` is null for recordings."""

    extension = ".jsonl"
    of_turns = False

    def update(self, update: Update) -> str:
        """The update's object on one line."""
        return update_to_line(update, latency=not self.recorded)


class Srt(Format):
    """SubRip subtitles: numbered cues whose text is the speaker."""

    extension = ".srt"

    def __init__(self, stream: str, rate: int, *, recorded: bool) -> None:
        super().__init__(stream, rate, recorded=recorded)
        self._cues = 0

    def turn(self, turn: Turn) -> str:
        """One cue."""
        self._cues += 1
        start, end = _cue_times(turn, self.rate, ",")
        return f"{self._cues}\n{start} --> {end}\n{one_line(turn.speaker)}\n\n"


class WebVtt(Format):
    """WebVTT subtitles: the speaker is both the voice of a cue and its text."""

    extension = ".vtt"
    header = "WEBVTT\n\n"

    def turn(self, turn: Turn) -> str:
        """One cue."""
        start, end = _cue_times(turn, self.rate, ".")
        speaker = one_line(turn.speaker).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{start} --> {end}\n<v {speaker}>{speaker}\n\n"


class AudacityLabels(Format):
    """Audacity label track: start, end and label separated by tabs, seconds with 6 digits."""

    extension = ".txt"

    def turn(self, turn: Turn) -> str:
        """One label."""
        return f"{turn.start / self.rate:.6f}\t{turn.end / self.rate:.6f}\t{one_line(turn.speaker)}\n"


_CLASSES: Mapping[str, type[Format]] = {
    "rttm": Rttm,
    "jsonl": JsonLines,
    "srt": Srt,
    "vtt": WebVtt,
    "audacity": AudacityLabels,
}

FORMATS: Mapping[str, str] = {name: kind.extension for name, kind in _CLASSES.items()}
"""Name of each format and the extension of its files."""


Kind: TypeAlias = str | type[Format] | type[Output]
"""What names an output: a key of ``FORMATS``, ``module:Class``, or a class."""

AnyKind = TypeVar("AnyKind", bound=Kind)


def kind_class(kind: Kind) -> type[Format] | type[Output]:
    """The class of an output; raises UsageError if there is none of that name."""
    if not isinstance(kind, str):
        return kind
    if kind in _CLASSES:
        return _CLASSES[kind]
    if ":" not in kind:
        msg = f"there is no output format {kind!r}: choose from {', '.join(FORMATS)}, or name your own as module:Class"
        raise UsageError(msg)
    return import_output(kind, Format, Output)


def known_formats(names: Sequence[AnyKind]) -> tuple[AnyKind, ...]:
    """The names, each once and in their order; raises UsageError if there is no format of a name, or two would write one file."""
    chosen = tuple(dict.fromkeys(names))
    users: dict[str, AnyKind] = {}
    for name in chosen:
        extension = kind_class(name).extension
        if extension and users.setdefault(extension, name) is not name:
            msg = (
                f"the outputs {users[extension]} and {name} would both write the file *{extension}; choose one of them"
            )
            raise UsageError(msg)
    return chosen


def make_format(kind: Kind, stream: str, rate: int, *, recorded: bool) -> Format:
    """The format of that kind for one stream; an ``Output`` is none, which is a UsageError."""
    found = kind_class(kind)
    if not issubclass(found, Format):
        msg = f"{found.__name__} is an output of its own, not a format"
        raise UsageError(msg)
    return found(stream, rate, recorded=recorded)


def _cue_times(turn: Turn, rate: int, point: str) -> tuple[str, str]:
    """Start and end of a cue, which must not be empty: at least 1 ms."""
    start, end = (round(position * 1000 / rate) for position in (turn.start, turn.end))
    return _cue_time(start, point), _cue_time(max(end, start + 1), point)


def _cue_time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"
