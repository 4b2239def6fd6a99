"""``diart-mp client``: streams a recording or a microphone to a gateway and shows the turns."""

import asyncio
import signal
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from diart_mp.cli import options
from diart_mp.cli.report import View, make_view
from diart_mp.errors import UsageError
from diart_mp.outputs.events import revision_from_dict
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.turns import Turn, Update

_RATE = 16_000
_WISHES = (
    "latency",
    "step",
    "duration",
    "tau_active",
    "rho_update",
    "delta_new",
    "max_speakers",
    "clustering",
    "start",
    "known_speakers",
)


@click.command()
@click.argument("source", required=False)
@click.option("--mic", is_flag=False, flag_value="", metavar="[ID|NAME]", help="Stream a microphone (see devices).")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the gateway listens.")
@click.option("--port", type=click.IntRange(1, 65535), default=7007, show_default=True)
@click.option("--token", envvar="DIART_MP_TOKEN", help="What the gateway asks for; better in DIART_MP_TOKEN.")
@click.option("--tls", is_flag=True, help="Connect with TLS (wss).")
@click.option("--ca", type=click.Path(path_type=Path), help="Trust this certificate (PEM); implies --tls.")
@click.option("--fast", is_flag=True, help="Send a recording as fast as it is taken, not at the pace of the clock.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="RTTM file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per result.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option("--latency", type=float, help="Seconds; this and the following: what the server does if not given.")
@click.option("--step", type=float)
@click.option("--duration", type=float)
@click.option("--tau-active", type=float)
@click.option("--rho-update", type=float)
@click.option("--delta-new", type=float)
@click.option("--max-speakers", type=int)
@click.option(
    "--known-speaker",
    "known_speakers",
    multiple=True,
    metavar="NAME",
    help="Name only these enrolled people; may be repeated.",
)
@click.option("--clustering", type=click.Choice(["exact", "adaptive"]))
@click.option("--start", type=click.Choice(["early", "exact"]))
def command(**values: Any) -> int:
    """Stream SOURCE (an audio file) to a gateway, at the pace of the clock, as if it were spoken now.

    The client comes back by itself when the connection breaks, and loses nothing that it still holds.
    """
    options.need_websockets()
    from diart_mp.web.client import ServerError

    source = _source(values)
    tls = _tls(values)
    name = source.name
    view = make_view(as_json=values["as_json"], quiet=values["quiet"], several=False)
    rttm = None if values["output"] is None else RttmFile(values["output"], name, force=values["force"])
    follower = Follower(name, view, rttm)
    wishes = {key: values[key] for key in _WISHES if values[key] not in (None, ())}
    host = f"[{values['host']}]" if ":" in values["host"] else values["host"]
    url = f"{'wss' if tls else 'ws'}://{host}:{values['port']}/"
    with view, source:
        arguments = {"token": values["token"] or "", "fast": values["fast"], "settings": wishes, "tls": tls}
        ended = asyncio.run(_stream(url, source, follower, arguments))
        view.ended(name)
        text = f"{ended['audio_s']:.1f} s of audio, {ended['segments']} turns"
        view.finish(
            text, {"kind": "summary", "streams": [name], **{key: ended[key] for key in ("audio_s", "segments")}}
        )
    if ended["cut"]:
        msg = f"the server has shut down: {name} was diarized until {ended['audio_s']:.1f} s; start again once it runs"
        raise ServerError(msg)
    return 0


async def _stream(url: str, source: Any, follower: "Follower", arguments: dict[str, Any]) -> dict[str, Any]:
    from diart_mp.web.client import StreamClient

    client = StreamClient(url, source, on_message=follower, **arguments)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, client.stop)
    return await client.run()


class Follower:
    """Shows what the server says. A segment that grows is shown as an update with the piece by which it grew."""

    def __init__(self, name: str, view: View, rttm: "RttmFile | None") -> None:
        self._name, self._view = name, view
        self._rttm = rttm
        self._ends: dict[int, int] = {}  # by segment that is not final: how far it was shown, samples
        self._pieces: list[Turn] = []
        self._until = self._seq = 0
        self._known = RevisedTurns(_RATE)

    def __call__(self, message: dict[str, Any]) -> None:
        """One message of the server."""
        match message["type"]:
            case "segment":
                self._segment(message)
            case "revision":
                self._revision(message)
            case "stats":
                self._stats(message)
            case "warning":
                self._view.note(message["message"])
            case "disconnected":
                self._view.note(f"the connection broke ({message['message']}); trying again")
            case "started" if message["resumed"]:
                self._view.note("connected again; the stream goes on")
            case "ended":
                self._flush(self._until, None)
                if self._rttm is not None and self._known.revised:
                    self._rttm.replace(self._known.turns())
        self._view.refresh()

    def _segment(self, message: dict[str, Any]) -> None:
        start, end = (round(message[key] * _RATE) for key in ("start", "end"))
        shown = self._ends.get(message["id"], start)
        if end > shown:
            self._pieces.append(Turn(shown, end, message["speaker"]))
        self._ends[message["id"]] = max(end, shown)
        if message["final"]:
            del self._ends[message["id"]]
            if self._rttm is not None:
                self._rttm.add(Turn(start, end, message["speaker"]))

    def _stats(self, message: dict[str, Any]) -> None:
        until = round(message["until"] * _RATE)
        self._view.progress(self._name, message["until"], None, None)
        self._flush(until, message["latency_ms"])

    def _flush(self, until: int, latency_ms: float | None) -> None:
        start, self._until = self._until, max(until, self._until)
        pieces, self._pieces = tuple(sorted(self._pieces)), []
        self._tell(Update(self._name, self._seq, start, self._until, _RATE, pieces, latency_ms))

    def _revision(self, message: dict[str, Any]) -> None:
        self._flush(self._until, None)
        revision = revision_from_dict(message, _RATE)
        self._tell(Update(self._name, self._seq, self._until, self._until, _RATE, (), None, revision))

    def _tell(self, update: Update) -> None:
        self._view.update(update)
        self._known.push(update)
        self._seq += 1


class RttmFile:
    """The file that was asked for: final turns as they come, and all of them again at the end if they were revised."""

    def __init__(self, path: Path, name: str, *, force: bool) -> None:
        from diart_mp.outputs.formats import Rttm
        from diart_mp.outputs.lines import LineFile

        self._rttm, self._file = Rttm(name, _RATE, recorded=True), LineFile(path, replace=force)
        self._file.start(self._rttm.header)

    def add(self, turn: Turn) -> None:
        """The next final turn."""
        self._file.append(self._rttm.turn(turn))

    def replace(self, turns: Iterable[Turn]) -> None:
        """These are the turns after all."""
        self._file.replace(self._rttm.header + "".join(map(self._rttm.turn, turns)))


def _source(values: dict[str, Any]) -> Any:
    """The source that is asked for; UsageError or AudioError in one line."""
    if (values["source"] is None) == (values["mic"] is None):
        msg = "name one audio file, or give --mic"
        raise UsageError(msg)
    if values["mic"] is not None:
        if values["fast"]:
            msg = "a microphone has one pace; --fast is for recordings"
            raise UsageError(msg)
        from diart_mp.audio.microphone import MicrophoneSource

        return MicrophoneSource(int(values["mic"]) if values["mic"].isdigit() else values["mic"] or None, rate=_RATE)
    from diart_mp.audio.file import FileSource, check
    from diart_mp.audio.paced import PacedSource

    path = check(values["source"], rate=_RATE, channel=None).path
    return FileSource(path, rate=_RATE) if values["fast"] else PacedSource(path, rate=_RATE)


def _tls(values: dict[str, Any]) -> ssl.SSLContext | None:
    if not (values["tls"] or values["ca"]):
        return None
    try:
        return ssl.create_default_context(cafile=values["ca"])
    except (OSError, ssl.SSLError) as error:
        msg = f"cannot use the certificate {values['ca']}: {error.strerror or error}"
        raise UsageError(msg) from error
