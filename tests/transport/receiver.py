"""Receive chunks in a process of its own until killed: writes the ``seq`` of each. Usage: receiver.py ENDPOINT REPLICA EPOCH."""

import sys

import zmq

from diart_mp.transport.link import Receiver


def main() -> None:
    """Takes all that comes, and says so."""
    endpoint, replica, epoch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    receiver = Receiver(zmq.Context(), [endpoint], stage="next", replica=replica, epoch=epoch, capacity=50)
    while True:
        receiver.sockets[0].poll(50)
        for message in receiver.receive():
            sys.stdout.write(f"{message.seq}\n")
            sys.stdout.flush()
            receiver.done(1)
        receiver.announce()


if __name__ == "__main__":
    main()
