"""What a supervisor makes of stages that somebody else starts."""

from typing import Any

from diart_mp.runtime.remote import RemoteStages
from diart_mp.topology import StageConfig, Topology

TOPOLOGY = Topology(
    report="tcp://127.0.0.1:9",
    stages=(
        StageConfig(name="capture", bind="tcp://127.0.0.1:1"),
        StageConfig(name="segmentation", bind="tcp://127.0.0.1:2", replicas=2, place="B"),
        StageConfig(name="clustering", keyed=True),
    ),
)


class Account:
    """The account under test, with a clock that the test moves, s."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stages = RemoteStages(TOPOLOGY, clock=lambda: self.now)

    def hear(self, kind: str, epoch: int, *, replica: int = 1, identity: str = "", **values: Any) -> Any:
        """What the account says to a message; None if it is not taken."""
        message = {"kind": kind, "stage": "segmentation", "replica": replica, "epoch": epoch, **values}
        known = self.stages.knows((identity or f"segmentation/{replica}/{epoch}/beat").encode(), message)
        return self.stages.take(message) if known else None

    @property
    def there(self) -> list[bool]:
        return [each["there"] for each in self.stages.status()]


def test_a_stage_comes_goes_and_comes_again() -> None:
    account = Account()
    assert account.there == [False, False]
    assert account.hear("beat", 5) == ("segmentation/1 at B is there", False)
    assert account.hear("beat", 5, done=3) == ("", False)
    assert account.there == [False, True]
    assert account.stages.status()[1]["done"] == 3
    account.now += 3.1
    assert account.there == [False, False]
    assert account.hear("beat", 5) == ("segmentation/1 at B is there again", True)  # its link was cut
    assert account.hear("ready", 6) == ("segmentation/1 at B was started again", True)
    assert account.hear("beat", 5) is None  # a process that was replaced and woke up


def test_who_is_gone_and_who_never_came_is_told_once() -> None:
    account = Account()
    account.now += 5.1
    assert list(account.stages.absent()) == [
        f"waiting for segmentation/{replica} at B; there: diart-mp stage segmentation/{replica} --topology FILE"
        for replica in (0, 1)
    ]
    assert list(account.stages.absent()) == []
    for epoch in (5, 6):
        account.hear("beat", epoch)
        assert list(account.stages.absent()) == []
        account.now += 3.1
        assert list(account.stages.absent()) == ["segmentation/1 at B is gone: nothing heard of it for 3 s"]
        assert list(account.stages.absent()) == []


def test_one_replica_is_enough_not_to_wait() -> None:
    account = Account()
    account.hear("beat", 5)
    account.now += 5.1
    account.hear("beat", 5)
    assert list(account.stages.absent()) == []


def test_a_new_process_on_a_host_whose_clock_is_behind_counts_once_the_old_one_is_gone() -> None:
    account = Account()
    account.hear("beat", 3_600_000)
    assert account.hear("ready", 1000) is None
    account.now += 3.1
    assert account.hear("ready", 1000) == ("segmentation/1 at B was started again", True)


def test_beats_that_are_no_numbers_are_left_out() -> None:
    account = Account()
    counters = {"refused": 2, "x": [], "y": {}}
    account.hear("beat", 5, done="many", queue=[], waiting=True, busy_s=float("nan"), compute_s=1.5, counters=counters)
    status = account.stages.status()[1]
    assert {name: status[name] for name in ("done", "queue", "waiting", "busy_s")} == dict.fromkeys(
        ("done", "queue", "waiting", "busy_s")
    )
    assert (status["compute_s"], status["counters"]) == (1.5, {"refused": 2})
    account.hear("beat", 5, counters=7)
    assert account.stages.status()[1]["counters"] is None


def test_strangers_are_not_known() -> None:
    account = Account()
    assert account.hear("beat", 5, replica=2) is None
    assert account.hear("beat", 5, identity="segmentation/0/5") is None
    assert not account.stages.knows(
        b"clustering/0/1", {"kind": "beat", "stage": "clustering", "replica": 0, "epoch": 1}
    )
    assert not account.stages.knows(b"x", {"kind": "beat", "stage": ["segmentation"], "replica": {}, "epoch": None})


def test_last_words_name_the_stage_and_its_place() -> None:
    account = Account()
    account.hear("ready", 5)
    text, again = account.hear("fatal", 5, text="no device cuda:7")
    assert (text, again) == ("segmentation/1 at B cannot go on: no device cuda:7", False)
    assert account.there == [False, False]
