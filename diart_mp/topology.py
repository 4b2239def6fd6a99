"""The topology: which stages there are, in which order, where they listen and what they run.

One TOML file, read strictly: an unknown key is an error with the nearest known one. ``diart-mp run`` writes such
a file for its own stages into its run folder; ``diart-mp stage`` reads it. Knows nothing of sockets or processes.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from diart_mp.config import Settings, check_names
from diart_mp.endpoints import is_loopback, leaves_host, problem_of
from diart_mp.errors import OutputError, UsageError
from diart_mp.places import check_places
from diart_mp.precision import Precision

VERSION = 1
CHAIN = ("capture", "segmentation", "embedding", "clustering")
FOREIGN = "foreign"  # implementation of a stage that is somebody else's program
_MAX_REPLICAS = 100
_PORT = re.compile(r"(tcp://.*:)(\d+)")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a stage: part of file names, socket identities and messages
_KEYED = ("clustering", "vad")  # stages that a file need not call so
_OWN_FILE = "surrogateescape"  # a topology may name files whose names are no UTF-8; their bytes are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """What one replica of a stage has of its own; what is empty is the stage's."""

    place: str = ""
    bind: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage: ``bind`` is where its output link listens (the last stage has none), ``model`` a model reference.

    ``place`` names the host where somebody starts it with ``diart-mp stage``; empty: ``diart-mp run`` starts it. ``replica`` has what
    the replicas do not share. ``implementation``: ``module:Class`` or the name of an entry point of the group ``diart_mp.stages``; empty: what ``name`` names;
    "foreign": a program that somebody else starts and that speaks the protocol. ``options`` are the stage's own.
    """

    name: str
    bind: str = ""
    replicas: int = 1
    keyed: bool = False
    model: str = "builtin"
    device: str = "cpu"
    precision: str = Precision.EXACT.value
    threads: int = 1
    max_batch: int = 8
    implementation: str = ""
    place: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    replica: tuple[ReplicaConfig, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether it is a program that the supervisor neither starts nor watches."""
        return self.implementation == FOREIGN

    def endpoints(self) -> list[str]:
        """Where the replicas of this stage listen."""
        return [self.endpoint(replica) for replica in range(self.replicas)]

    def endpoint(self, replica: int) -> str:
        """Where one replica listens: its own ``bind``, or the stage's with the replica's number behind it or added to the port."""
        if self.replica and self.replica[replica].bind:
            return self.replica[replica].bind
        port = _PORT.fullmatch(self.bind)
        if self.replicas == 1 or not self.bind:
            return self.bind
        return f"{port[1]}{int(port[2]) + replica}" if port else f"{self.bind}-{replica}"

    def place_of(self, replica: int) -> str:
        """Where one replica runs; empty: where ``diart-mp run`` is."""
        return (self.replica[replica].place if self.replica else "") or self.place

    def device_of(self, replica: int) -> str:
        """The device of one replica."""
        return (self.replica[replica].device if self.replica else "") or self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """What is captured: kind "file" (``path``), "microphone" (``device``), "pcm" (raw samples on file descriptor ``fd``) or
    "paced" (a file played at live pace, from ``delay_ms`` on).
    """

    kind: str
    name: str
    path: str = ""
    device: str = ""
    channel: int = -1
    fd: int = 0
    encoding: str = "s16le"
    input_rate: int = 16_000
    channels: int = 1
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a capture stage does: diarize ``sources`` with ``settings`` and write ``formats`` into ``output``.

    ``jobs`` recordings are diarized at a time.
    """

    sources: tuple[SourceConfig, ...]
    settings: Settings
    output: str = ""
    formats: tuple[str, ...] = ()
    force: bool = False
    jobs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What a gateway stage serves: where it listens, who is let in, and the limits of its clients.

    ``fd`` is a listening socket inherited from the supervisor (-1: it opens its own). ``settings`` are what a client gets that
    asks for nothing else. Live audio may come ``max_rate`` times as fast as the clock, beyond a burst of ``burst_s``; a
    client that says nothing for ``idle_s`` is closed, its stream kept for ``resume_s``; who has not begun ``start_s`` after
    connecting is closed. ``max_message`` is in bytes, ``max_waiting`` messages may wait for a slow reader. Pages of ``origins``
    may connect beside the gateway's own; with ``protect_metrics``, ``/metrics`` asks for a token, too.
    """

    settings: Settings
    host: str = "127.0.0.1"
    port: int = 7007
    fd: int = -1
    token: str = ""
    token_file: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    origins: tuple[str, ...] = ()
    protect_metrics: bool = False
    max_streams: int = 32
    max_message: int = 1 << 20
    max_rate: float = 2.0
    burst_s: float = 10.0
    idle_s: float = 30.0
    resume_s: float = 60.0
    start_s: float = 5.0
    max_waiting: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The whole pipeline of one run.

    ``directory`` holds its sockets and journals, ``control`` is the supervisor's socket. A stage counts as hung when it gives no
    sign of life for ``silence_s`` (stopped, or deadlocked), or works on one batch for ``stuck_s``; a hung stage is replaced.
    With ``keys``, a folder, TCP links are encrypted (``diart_mp.keys``); without, endpoints other than loopback ones must be allowed by
    ``insecure = true``. With ``anywhere``, TCP ports are opened on all interfaces, so endpoints may be names that only others know.
    A file that somebody writes for several hosts leaves ``run``, ``directory`` and the endpoints that stay on the host of
    ``diart-mp run`` empty (a plan); each process fills in its own. Stages elsewhere report to ``report``.
    """

    stages: tuple[StageConfig, ...]
    run: str = ""
    directory: str = ""
    results: str = ""
    control: str = ""
    report: str = ""
    home: str = "home"
    keys: str = ""
    anywhere: bool = False
    max_in_flight: int = 64
    silence_s: float = 5.0
    stuck_s: float = 60.0
    insecure: bool = False
    job: Job | None = field(default=None)
    gateway: GatewayConfig | None = field(default=None)

    def stage(self, name: str) -> StageConfig:
        """The stage called ``name``; UsageError with the known names if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        check_names({name: None}, {stage.name: None for stage in self.stages}, "stage")
        raise AssertionError

    @property
    def is_plan(self) -> bool:
        """Whether it is what somebody wrote, not yet what runs."""
        return not self.directory

    def watched(self, stage: StageConfig) -> bool:
        """Whether the supervisor starts and watches all replicas of a stage."""
        return not stage.foreign and not any(stage.place_of(replica) for replica in range(stage.replicas))

    def is_ordered(self, name: str) -> bool:
        """Whether a stage gets the chunks of a stream in order, all in one process: keyed ones do, and the last, which answers."""
        return self.stage(name).keyed or name == self.stages[-1].name

    def before(self, name: str) -> StageConfig:
        """The stage whose output ``name`` receives."""
        return self.stages[[stage.name for stage in self.stages].index(name) - 1]

    def after(self, name: str) -> StageConfig | None:
        """The stage that receives the output of ``name``; None for the last one."""
        index = [stage.name for stage in self.stages].index(name) + 1
        return self.stages[index] if index < len(self.stages) else None

    def write(self, path: Path) -> None:
        """Write the topology as TOML, readable by its owner alone."""
        import tomli_w

        values = {"version": VERSION, **asdict(self)}
        values["stage"] = [dict(stage) for stage in values.pop("stages")]
        for table in ("job", "gateway"):
            if values[table] is None:
                del values[table]
        path.touch(0o600)
        path.write_text(tomli_w.dumps(values), encoding="utf-8", errors=_OWN_FILE)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The topology in a TOML file; UsageError for anything that is not one."""
        values = read_toml(path, errors=_OWN_FILE)
        if values.pop("version", None) != VERSION:
            msg = f"{path}: 'version = {VERSION}' is missing, or it is of a newer diart-mp; upgrade this one"
            raise UsageError(msg)
        if isinstance(values.get("keys"), str) and values["keys"]:
            values["keys"] = str(path.absolute().parent / Path(values["keys"]).expanduser())
        try:
            return cls._from_map(values)
        except UsageError as error:
            msg = f"{path}: {error}"
            raise UsageError(msg) from error

    @classmethod
    def _from_map(cls, values: dict[str, Any]) -> Self:
        values = dict(values)
        keys = ["stage" if each.name == "stages" else each.name for each in fields(cls)]
        check_names(values, dict.fromkeys(keys), "key")
        values["stages"] = tuple(_stage(table) for table in _tables(values, "stage"))
        if "job" in values:
            values["job"] = _job(values["job"])
        if "gateway" in values:
            table = dict(_table(values["gateway"], "gateway"))
            table["settings"] = Settings.from_map(_table(table.get("settings", {}), "settings"))
            table["origins"] = _texts(table.get("origins", []), "origins")
            values["gateway"] = _typed(GatewayConfig, table, "key")
        topology: Self = _typed(cls, values, "key")
        _check(topology)
        return topology


def read_toml(path: Path, *, errors: str = "strict") -> dict[str, Any]:
    """The tables of a TOML file; OutputError or UsageError, one line, if it cannot be read.

    ``errors`` says what happens to bytes that are no UTF-8, as for ``open``.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8", errors=errors))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise OutputError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid TOML: {error}"
        raise UsageError(msg) from error


def _stage(table: dict[str, Any]) -> StageConfig:
    values = dict(table)
    if "replica" in values:
        values["replica"] = tuple(_typed(ReplicaConfig, each, "replica") for each in _tables(values, "replica"))
        if values["replica"]:
            values.setdefault("replicas", len(values["replica"]))
    if "options" in values:
        values["options"] = _table(values["options"], "options")
    if "implementation" not in values and values.get("name") in _KEYED:
        values.setdefault("keyed", True)
    stage: StageConfig = _typed(StageConfig, values, "stage")
    if stage.replica and len(stage.replica) != stage.replicas:
        msg = f"{stage.name} has {stage.replicas} replicas and {len(stage.replica)} tables [[stage.replica]]; leave 'replicas' out"
        raise UsageError(msg)
    return stage


def _job(table: Any) -> Job:
    table = dict(_table(table, "job"))
    table["sources"] = tuple(_typed(SourceConfig, source, "source") for source in _tables(table, "sources"))
    table["settings"] = Settings.from_map(_table(table.get("settings", {}), "settings"))
    table["formats"] = _texts(table.get("formats", []), "formats")
    job: Job = _typed(Job, table, "key")
    return job


def _tables(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tables = values.pop(name, None)
    if not isinstance(tables, list):
        msg = f"'{name}' must be a list of tables ([[{name}]])"
        raise UsageError(msg)
    return [_table(table, name) for table in tables]


def _texts(values: Any, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        msg = f"'{name}' must be a list of texts, not {values!r:.40}"
        raise UsageError(msg)
    return tuple(values)


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"'{name}' must be a table, not {value!r:.40}"
        raise UsageError(msg)
    return value


def _typed(kind: type[Any], values: Mapping[str, Any], what: str) -> Any:
    """A dataclass from a map of the file: names and simple types checked."""
    types = {entry.name: entry.type for entry in fields(kind)}
    check_names(values, types, what)
    for name, value in values.items():
        wanted: Any = types[name]
        allowed = (int, float) if wanted is float else wanted
        if wanted in (str, int, float, bool) and (
            not isinstance(value, allowed) or (wanted is not bool and isinstance(value, bool))
        ):
            msg = f"'{name}' must be of type {wanted.__name__}, not {value!r:.40}"
            raise UsageError(msg)
    try:
        return kind(**values)
    except TypeError as error:
        msg = f"a {what} table is incomplete: {error}"
        raise UsageError(msg) from error


def _check(topology: Topology) -> None:
    names = [stage.name for stage in topology.stages]
    if len(names) < 2 or len(set(names)) != len(names):
        msg = f"a topology needs at least two stages with different names, not {names}"
        raise UsageError(msg)
    for name in names:
        if not _NAME.fullmatch(name):
            msg = f"a stage is called {name!r:.80}; letters, digits, '_', '.' and '-' are allowed, at most 64"
            raise UsageError(msg)
    for stage in topology.stages:
        if stage.precision not in list(Precision):
            msg = f"precision of {stage.name} is '{stage.precision}'; known: {', '.join(Precision)}"
            raise UsageError(msg)
        for device in {stage.device_of(each) for each in range(stage.replicas if topology.is_plan else 0)}:
            if not _DEVICE.fullmatch(device):
                msg = f"device of {stage.name} is '{device}'; known: auto, cpu, cuda, cuda:N and mps"
                raise UsageError(msg)
    low = min(
        [topology.max_in_flight, *(min(stage.replicas, stage.threads, stage.max_batch) for stage in topology.stages)]
    )
    if low < 1:
        msg = "max_in_flight, replicas, threads and max_batch must be at least 1"
        raise UsageError(msg)
    if not (topology.silence_s > 0 and topology.stuck_s > 0):
        msg = "silence_s and stuck_s must be above 0"
        raise UsageError(msg)
    if topology.stages[0].replicas != 1:
        msg = f"{topology.stages[0].name} owns the streams and can have no replicas; start a second pipeline instead"
        raise UsageError(msg)
    last = topology.stages[-1]
    if last.foreign:
        msg = f"{last.name} is the last stage, which answers the owner, so it cannot be foreign; put it before another one"
        raise UsageError(msg)
    if max(stage.replicas for stage in topology.stages) > _MAX_REPLICAS:
        msg = f"a stage can have at most {_MAX_REPLICAS} replicas"
        raise UsageError(msg)
    _check_endpoints(topology)


def _check_endpoints(topology: Topology) -> None:
    """Where processes listen: known transports, and no two at one place."""
    stages = topology.stages[:-1]
    endpoints = [endpoint for stage in stages for endpoint in stage.endpoints()] + [topology.results]
    endpoints += [endpoint for endpoint in (topology.control, topology.report) if endpoint]
    check_places(topology)
    for endpoint in endpoints:
        if topology.is_plan and not endpoint:
            continue
        if problem := problem_of(endpoint):
            raise UsageError(problem)
        routable = leaves_host(endpoint) and (topology.anywhere or not is_loopback(endpoint))
        if routable and not (topology.keys or topology.insecure):
            where = " and 'anywhere = true'" if is_loopback(endpoint) else ""
            msg = f"{endpoint}{where} would carry audio over the network in the clear; make keys (diart-mp keys), or say 'insecure = true' if that is wanted"
            raise UsageError(msg)
        if endpoints.count(endpoint) > 1:
            msg = f"two stages listen at {endpoint}; give each an endpoint of its own"
            raise UsageError(msg)
