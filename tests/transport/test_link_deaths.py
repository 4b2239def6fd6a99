"""All replicas of a stage gone at once: what was meant for them waits for the next ones."""

import time
from contextlib import ExitStack
from pathlib import Path

import zmq

from diart_mp.messages import Message
from diart_mp.transport.link import Receiver, Sender


def test_what_several_dead_replicas_were_to_get_waits(tmp_path: Path) -> None:
    with ExitStack() as stack:
        context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(context.destroy, linger=0)
        sender = Sender(context, f"ipc://{tmp_path}/link", stage="this", epoch=1)
        ends = [context, [f"ipc://{tmp_path}/link"]]
        receivers = [Receiver(*ends, stage="next", replica=n, epoch=1, capacity=4) for n in range(3)]  # type: ignore[arg-type]
        deadline = time.monotonic() + 20
        while sender.statistics().replicas < 3 or sum(each.room for each in sender._replicas.values()) < 12:
            assert time.monotonic() < deadline
            for each in receivers:
                each.receive()
                each.announce()
            sender.socket.poll(2)
            sender.receive()
        for each in receivers:
            each.close()
        while _reachable(sender):
            assert time.monotonic() < deadline
        sender.send(*(Message(kind="chunk", stream="s", seq=seq) for seq in range(9)))
        assert (sender.statistics().replicas, sender.statistics().waiting) == (0, 9)
        living = Receiver(*ends, stage="next", replica=1, epoch=2, capacity=20)  # type: ignore[arg-type]
        stack.callback(living.close)
        stack.callback(sender.close)
        seqs: list[int] = []
        while len(seqs) < 9:
            assert time.monotonic() < deadline
            living.announce()
            sender.socket.poll(2)
            sender.receive()
            seqs += [message.seq for message in living.receive()]
        assert sorted(seqs) == list(range(9))


def _reachable(sender: Sender) -> bool:
    """Whether any replica's connection is still there, without telling the sender that it is not."""
    for index in range(3):
        try:
            sender.socket.send_multipart([f"next/{index}/1".encode(), b""], flags=zmq.DONTWAIT)
        except zmq.ZMQError:
            continue
        return True
    return False
