"""TCP ports for tests."""

import socket
from contextlib import ExitStack


def free_port(count: int = 1) -> int:
    """The first of ``count`` ports in a row that nobody listens at."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
        return int(first)
