"""Topologies for several hosts: what is read, what is refused, and what people are told of them."""

from pathlib import Path

import pytest

from diart_mp.errors import UsageError
from diart_mp.places import explain, places
from diart_mp.topology import ReplicaConfig, Topology

HOSTS = """
version = 1
home = "A"
results = "tcp://127.0.0.1:7100"
report = "tcp://127.0.0.1:7101"

[[stage]]
name = "capture"
bind = "tcp://127.0.0.1:7110"

[[stage]]
name = "segmentation"
bind = "tcp://127.0.0.1:7120"
device = "cpu"
[[stage.replica]]
place = "B"
[[stage.replica]]
place = "C"
bind = "tcp://127.0.0.1:7130"
device = "cuda:1"

[[stage]]
name = "embedding"
place = "C"
bind = "tcp://127.0.0.1:7140"

[[stage]]
name = "clustering"
"""


def read(folder: Path, text: str = HOSTS) -> Topology:
    file = folder / "hosts.toml"
    file.write_text(text)
    return Topology.read(file)


def test_replicas_have_places_endpoints_and_devices_of_their_own(tmp_path: Path) -> None:
    topology = read(tmp_path)
    stage = topology.stage("segmentation")
    assert topology.is_plan
    assert stage.replica[0] == ReplicaConfig(place="B")
    assert stage.endpoints() == ["tcp://127.0.0.1:7120", "tcp://127.0.0.1:7130"]
    assert [stage.place_of(replica) for replica in (0, 1)] == ["B", "C"]
    assert [stage.device_of(replica) for replica in (0, 1)] == ["cpu", "cuda:1"]
    assert places(topology) == ["A", "B", "C"]
    assert topology.stage("clustering").keyed
    assert [topology.watched(each) for each in topology.stages] == [True, False, False, True]


def test_a_plan_survives_being_written(tmp_path: Path) -> None:
    topology = read(tmp_path)
    topology.write(tmp_path / "again.toml")
    assert Topology.read(tmp_path / "again.toml") == topology


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'bind = "tcp://127.0.0.1:7110"',
            "",
            "segmentation/0 at B cannot reach capture at A: 'bind' of capture is missing",
        ),
        ('results = "tcp://127.0.0.1:7100"', 'results = "x"', "must begin with ipc:// or tcp://, not 'x'"),
        (
            'bind = "tcp://127.0.0.1:7140"',
            'bind = "ipc:///x"',
            "clustering at A cannot reach embedding at C: 'bind' of",
        ),
        ('name = "clustering"', 'name = "clustering"\nplace = "B"\n', None),
        ('bind = "tcp://127.0.0.1:7110"', 'bind = "tcp://192.0.2.1:1"', "tcp://192.0.2.1:1 would carry audio"),
        ('device = "cpu"', 'device = "gpu"', "device of segmentation is 'gpu'; known: auto, cpu, cuda, cuda:N and mps"),
        ('device = "cuda:1"', 'device = "cuda:x"', "device of segmentation is 'cuda:x'"),
        ('home = "A"', 'hom = "A"', "unknown key 'hom'; did you mean 'home'"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, old: str, new: str, said: str | None) -> None:
    assert old in HOSTS
    text = HOSTS.replace(old, new)
    if said is None:
        assert read(tmp_path, text).stage("clustering").place == "B"
        return
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_results_cannot_stay_on_one_host_if_the_last_stage_is_on_another(tmp_path: Path) -> None:
    text = HOSTS.replace('results = "tcp://127.0.0.1:7100"', "").replace(
        'name = "clustering"', 'name = "clustering"\nplace = "B"'
    )
    with pytest.raises(UsageError, match="clustering at B cannot reach results at A: results is missing"):
        read(tmp_path, text)


def test_stages_of_one_place_other_than_home_need_an_endpoint(tmp_path: Path) -> None:
    text = HOSTS.replace('bind = "tcp://127.0.0.1:7130"\n', "").replace('bind = "tcp://127.0.0.1:7120"\n', "")
    with pytest.raises(UsageError, match="'bind' of segmentation/0 at C is missing; make it ipc:///PATH"):
        read(tmp_path, text.replace('place = "B"', 'place = "C"'))


def test_a_socket_on_another_host_carries_the_audio_that_came_by_tcp(tmp_path: Path) -> None:
    text = HOSTS.replace('bind = "tcp://127.0.0.1:7120"', 'bind = "ipc:///x"').replace('place = "B"', 'place = "C"')
    assert "|  ipc:///x-0, audio inside the messages" in "\n".join(explain(read(tmp_path, text), "hosts.toml"))


def test_the_drawing_shows_each_process_and_what_to_start(tmp_path: Path) -> None:
    text = "\n".join(explain(read(tmp_path), "hosts.toml"))
    for shown in (
        "[   capture    ]  A, cpu, owner",
        "[segmentation/1]  C, cuda:1",
        "|  tcp://127.0.0.1:7120, audio inside the messages",
        "|  tcp://127.0.0.1:7140, without audio",
        "'-> results to capture: tcp://127.0.0.1:7100\n",
        "[  clustering  ]  A, cpu, keyed",
        "at A:  diart-mp run ... --topology hosts.toml   (starts capture, clustering)",
        "at B:  diart-mp stage segmentation/0 --topology hosts.toml",
        "at C:  diart-mp stage segmentation/1 --topology hosts.toml\nat C:  diart-mp stage embedding --topology hosts.toml",
    ):
        assert shown in text, text
    assert "remark" not in text
    without = "\n".join(explain(read(tmp_path, HOSTS.replace("report", "# report")), "hosts.toml"))
    assert "remark: without report" in without
