"""Endpoints as topologies write them: ``tcp://HOST:PORT`` and ``ipc://PATH``, and what is wrong with those that cannot work.

ZeroMQ itself takes the remainder of a port that is too large, and waits for ever where a name is no address. Knows nothing of stages or
sockets. Runs wherever a topology is read.
"""

import ipaddress
import os
import re

_PREFIXES = ("ipc://", "tcp://")
_TCP = re.compile(r"tcp://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535
_MAX_PATH = 107  # bytes of a Unix socket's path


def leaves_host(endpoint: str) -> bool:
    """Whether what goes through ``endpoint`` cannot count on shared memory at the other end."""
    return endpoint.startswith("tcp://")


def host_of(endpoint: str) -> str:
    """The host of a TCP endpoint, without brackets; empty for others."""
    found = _TCP.fullmatch(endpoint)
    return found["host"].strip("[]") if found else ""


def is_loopback(endpoint: str) -> bool:
    """Whether a TCP endpoint is reached from its own host alone. A name that merely looks so (127.example.org) is not."""
    host = host_of(endpoint)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def problem_of(endpoint: str) -> str:
    """What is wrong with an endpoint, as a line; empty if nothing is."""
    if not endpoint.startswith(_PREFIXES):
        return f"an endpoint must begin with {' or '.join(_PREFIXES)}, not '{endpoint}'"
    if not leaves_host(endpoint):
        path = endpoint.removeprefix("ipc://")
        fits = 0 < len(os.fsencode(path)) <= _MAX_PATH
        return "" if fits else f"'{endpoint}' must be ipc:///PATH, with a path of at most {_MAX_PATH} bytes"
    found = _TCP.fullmatch(endpoint)
    if found is None:
        return f"'{endpoint}' must be tcp://HOST:PORT, with the address or name by which others reach that host"
    if not 0 < int(found["port"]) <= _MAX_PORT:
        return f"'{endpoint}' has no port from 1 to {_MAX_PORT}"
    return ""
