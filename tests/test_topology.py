"""The topology file: strict reading, and what a run writes is what a stage reads."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.errors import OutputError, UsageError
from diart_mp.topology import Job, SourceConfig, StageConfig, Topology

STAGES = (
    StageConfig(name="capture", bind="ipc:///tmp/a"),
    StageConfig(name="segmentation", bind="ipc:///tmp/b", replicas=2, threads=3),
    StageConfig(name="clustering", keyed=True, model=""),
)
TOPOLOGY = Topology(
    run="0a1b", directory="/tmp", stages=STAGES, results="ipc:///tmp/r", control="ipc:///tmp/c", max_in_flight=7
)
MINIMAL = """
version = 1
run = "r"
directory = "/tmp"
results = "tcp://127.0.0.1:5000"
[[stage]]
name = "capture"
bind = "ipc:///tmp/a"
[[stage]]
name = "clustering"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "topology.toml"
    path.write_text(text)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    TOPOLOGY.write(path)
    assert Topology.read(path) == TOPOLOGY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_job_round_trip_with_any_file_name(tmp_path: Path) -> None:
    names = ["a b.wav", "réunion\n\"'.wav", "caf\udce9.wav", "=[x]#"]
    sources = tuple(SourceConfig(kind="file", name=name, path=f"/data/{name}", channel=1) for name in names)
    job = Job(sources=sources, settings=Settings(start="early"), output="/o", formats=("rttm", "srt"), force=True)
    topology = replace(TOPOLOGY, job=job)
    path = tmp_path / "topology.toml"
    topology.write(path)
    assert Topology.read(path) == topology


def test_defaults_of_a_short_file(tmp_path: Path) -> None:
    topology = Topology.read(write(tmp_path, MINIMAL))
    assert topology.control == ""
    assert topology.max_in_flight == 64
    assert topology.job is None
    assert topology.stages[1] == StageConfig(name="clustering", keyed=True)


def test_neighbours_and_endpoints() -> None:
    assert TOPOLOGY.before("segmentation") is STAGES[0]
    assert TOPOLOGY.after("segmentation") is STAGES[2]
    assert TOPOLOGY.after("clustering") is None
    assert TOPOLOGY.stage("clustering") is STAGES[2]
    assert STAGES[0].endpoints() == ["ipc:///tmp/a"]
    assert STAGES[1].endpoints() == ["ipc:///tmp/b-0", "ipc:///tmp/b-1"]
    assert STAGES[1].endpoint(1) == "ipc:///tmp/b-1"
    with pytest.raises(UsageError, match="unknown stage 'klustering'; did you mean 'clustering'"):
        TOPOLOGY.stage("klustering")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", "", "'version = 1' is missing"),
        ("version = 1", "version = 2", "newer diart-mp"),
        ('run = "r"', 'rum = "r"', "unknown key 'rum'; did you mean 'run'"),
        ('run = "r"', "run = 3", "'run' must be of type str, not 3"),
        ('run = "r"', 'run = "r"\nstages = []', "unknown key 'stages'; did you mean 'stage'"),
        ('run = "r"', 'run = "r"\nmax_in_flight = 0', "must be at least 1"),
        ('run = "r"', 'run = "r"\nmax_in_flight = true', "'max_in_flight' must be of type int"),
        ('run = "r"', 'run = "r"\ncontrol = "tcp://127.0.0.1:5000"', "two stages listen at tcp://127.0.0.1:5000"),
        ('run = "r"', 'run = "r"\ncontrol = "/tmp/x"', "must begin with ipc:// or tcp://"),
        ('run = "r"', 'run = "r"\njob = 3', "'job' must be a table"),
        ('run = "r"', 'run = "r"\nsilence_s = "5"', "'silence_s' must be of type float"),
        ('run = "r"', 'run = "r"\nsilence_s = true', "'silence_s' must be of type float"),
        ('run = "r"', 'run = "r"\nstuck_s = nan', "must be above 0"),
        ('run = "r"', 'run = "r"\nsilence_s = 0', "must be above 0"),
        ("[[stage]]", "[stage]", "not valid TOML"),
        ('name = "clustering"', 'name = "clustering"\nreplicass = 2', "did you mean 'replicas'"),
        ('name = "clustering"', 'name = "clustering"\nreplica = 2', "'replica' must be a list of tables"),
        ('name = "clustering"', 'name = "clustering"\nreplica = [{plaze = "B"}]', "did you mean 'place'"),
        (
            'name = "clustering"',
            'name = "clustering"\nreplicas = 2\nreplica = [{place = "B"}]',
            "2 replicas and 1 tables",
        ),
        ('bind = "ipc:///tmp/a"', 'bind = "ipc:///tmp/a"\nplace = "B"', "capture runs where diart-mp run is"),
        (
            'name = "clustering"',
            'name = "clustering"\nplace = "B"',
            "clustering at B cannot reach capture at home: 'bind'",
        ),
        ('run = "r"', 'run = "r"\nreport = "ipc:///tmp/x"', "'report' is for stages on other hosts"),
        ('name = "clustering"', 'name = "clustering"\nreplicas = 0', "must be at least 1"),
        ('name = "clustering"', 'name = "clustering"\nreplicas = 101', "at most 100 replicas"),
        ('name = "clustering"', 'name = "clustering"\nkeyed = 1', "'keyed' must be of type bool"),
        ('name = "clustering"', 'name = "clustering"\nthreads = 1.5', "'threads' must be of type int"),
        ('name = "clustering"', 'name = "capture"', "different names"),
        ('name = "clustering"', 'name = "a/b"', "a stage is called 'a/b'"),
        ('name = "clustering"', 'name = ""', "a stage is called ''"),
        ('name = "clustering"', f'name = "{"x" * 65}"', "at most 64"),
        ('bind = "ipc:///tmp/a"', "", "must begin with ipc:// or tcp://, not ''"),
        ('bind = "ipc:///tmp/a"', 'bind = "udp://x"', "not 'udp://x'"),
        ('bind = "ipc:///tmp/a"', 'bind = "ipc://"', "must be ipc:///PATH"),
        ('bind = "ipc:///tmp/a"', f'bind = "ipc:///{"x" * 107}"', "at most 107 bytes"),
        ('name = "clustering"', 'name = "clustering"\noptions = 3', "'options' must be a table"),
        ('bind = "ipc:///tmp/a"', 'bind = "tcp://127.0.0.1:5000"', "two stages listen"),
        ('bind = "ipc:///tmp/a"', 'bind = "ipc:///tmp/a"\nreplicas = 2', "capture owns the streams"),
        ('[[stage]]\nname = "clustering"\n', "", "at least two stages"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new))
    with pytest.raises(UsageError, match=said) as caught:
        Topology.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("tcp://gpu", "must be tcp://HOST:PORT"),
        ("tcp://gpu:", "must be tcp://HOST:PORT"),
        ("tcp://*:7103", "must be tcp://HOST:PORT"),
        ("tcp://::1:7103", "must be tcp://HOST:PORT"),
        ("tcp://gpu:7103\\n", "must be tcp://HOST:PORT"),
        ("tcp://127.0.0.1:0", "no port from 1 to 65535"),
        ("tcp://127.0.0.1:65536", "no port from 1 to 65535"),
        ("tcp://192.0.2.1:7103", "in the clear"),
        ("tcp://127.example.org:7103", "in the clear"),
        ("tcp://[2001:db8::1]:7103", "in the clear"),
    ],
)
def test_endpoints_that_are_refused(tmp_path: Path, endpoint: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Topology.read(write(tmp_path, MINIMAL.replace('"ipc:///tmp/a"', f'"{endpoint}"')))


@pytest.mark.parametrize("endpoint", ["tcp://127.8.0.1:7103", "tcp://localhost:7103", "tcp://[::1]:7103"])
def test_loopback_needs_no_keys_unless_ports_are_opened_anywhere(tmp_path: Path, endpoint: str) -> None:
    text = MINIMAL.replace('"ipc:///tmp/a"', f'"{endpoint}"')
    assert Topology.read(write(tmp_path, text)).stages[0].bind == endpoint
    anywhere = text.replace("version = 1", "version = 1\nanywhere = true")
    with pytest.raises(UsageError, match="'anywhere = true' would carry audio over the network in the clear"):
        Topology.read(write(tmp_path, anywhere))
    for allowed in ("insecure = true", 'keys = "keys"'):
        assert Topology.read(write(tmp_path, anywhere.replace("version = 1", f"version = 1\n{allowed}"))).anywhere


def test_replicas_listen_at_ports_in_a_row(tmp_path: Path) -> None:
    stage = (
        '[[stage]]\nname = "segmentation"\nbind = "tcp://127.0.0.1:4999"\nreplicas = REPLICAS\n[[stage]]\nname = "clus'
    )
    text = MINIMAL.replace('[[stage]]\nname = "clus', stage)
    topology = Topology.read(write(tmp_path, text.replace("REPLICAS", "1")))
    assert topology.stage("segmentation").endpoints() == ["tcp://127.0.0.1:4999"]
    with pytest.raises(UsageError, match=r"two stages listen at tcp://127.0.0.1:5000"):  # that is where results go
        Topology.read(write(tmp_path, text.replace("REPLICAS", "2")))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("[job]\nsources = 3", "'sources' must be a list of tables"),
        ("[job]\nsources = [3]", "'sources' must be a table"),
        ("[job]", "'sources' must be a list"),
        ("[job]\nsources = []\nformats = 'rttm'", "'formats' must be a list of texts"),
        ("[job]\nsources = []\nformats = [1]", "'formats' must be a list of texts"),
        ("[job]\nsources = []\nsettings = {taw_active = 1}", "did you mean 'tau_active'"),
        ("[job]\nsources = []\nsettings = {tau_active = 3}", "tau_active must be"),
        ("[job]\nsources = [{kind = 'file'}]", "incomplete"),
        ("[job]\nsources = [{kind = 'file', name = 'a', fd = '0'}]", "'fd' must be of type int"),
        ("[job]\nsources = []\noutputs = 'x'", "did you mean 'output'"),
    ],
)
def test_jobs_that_are_refused(tmp_path: Path, job: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Topology.read(write(tmp_path, MINIMAL + job))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot read .*No such file"):
        Topology.read(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="not valid TOML"):
        Topology.read(write(tmp_path, MINIMAL + "x = "))
