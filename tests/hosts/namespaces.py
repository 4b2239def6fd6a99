"""Hosts on one machine: network namespaces, each joined to each by a veth pair, whose links can be cut and healed. For root on Linux."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests.hosts.slow_link import SlowLink


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


class Network:
    """Hosts by name: each has an address, and a way to run programs there."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.addresses = {name: f"10.77.{os.getpid() % 200}.{number + 1}" for number, name in enumerate(names)}
        self._prefix = f"dm{os.getpid()}"
        self._slow: dict[frozenset[str], SlowLink] = {}  # by the hosts at its ends
        self._stack = ExitStack()

    def on(self, name: str) -> tuple[str, ...]:
        """What to write before a command so that it runs on host ``name``."""
        return ("ip", "netns", "exec", self._prefix + name)

    def cut(self, name: str) -> None:
        """Take host ``name`` off the network: packets are lost, nobody is told."""
        for other in self.names:
            if other != name:
                _ip("-n", self._prefix + name, "link", "set", self._device(name, other), "down")

    def heal(self, name: str) -> None:
        """Undo ``cut``."""
        for other in self.names:
            if other != name:
                _ip("-n", self._prefix + name, "link", "set", self._device(name, other), "up")
                self._route(name, other)

    def worsen(self, name: str, *, delay_s: float, loss: float) -> None:
        """From now on packets from and to host ``name`` take ``delay_s`` longer, and of as many as ``loss`` says nothing arrives."""
        for other in self.names:
            if other != name:
                ends = {
                    here: f"s{os.getpid() % 100_000}{here}{there}" for here, there in ((name, other), (other, name))
                }
                link = SlowLink((ends[name], ends[other]), delay_s=delay_s, loss=loss)
                self._slow[frozenset((name, other))] = self._stack.enter_context(link)
                for here, there in ((name, other), (other, name)):
                    made = self._prefix + here
                    _ip("link", "set", ends[here], "netns", made, "name", self._device(here, there))
                    _ip("-n", made, "link", "set", self._device(here, there), "up")
                for here, there in ((name, other), (other, name)):
                    self._route(here, there)

    def sent(self, name: str) -> int:
        """Bytes that host ``name`` has sent to others so far, headers and all."""
        command = [*self.on(name), "cat", "/proc/net/dev"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()
        counts = {line.split(":")[0].strip(): line.split(":")[1].split() for line in lines if ":" in line}
        return sum(int(values[8]) for device, values in counts.items() if device.startswith(("to", "slow")))

    def lost(self) -> int:
        """Packets that slow links have lost."""
        return sum(link.lost for link in self._slow.values())

    def _device(self, here: str, there: str) -> str:
        """What leads from one host to another."""
        return f"slow{there}" if frozenset((here, there)) in self._slow else f"to{there}"

    def open(self, stack: ExitStack) -> None:
        """Make the hosts and their links."""
        stack.callback(self._stack.close)
        for name in self.names:
            _ip("netns", "add", self._prefix + name)
            stack.callback(_ip, "netns", "del", self._prefix + name)
            _ip("-n", self._prefix + name, "link", "set", "lo", "up")
            _ip("-n", self._prefix + name, "addr", "add", f"{self.addresses[name]}/32", "dev", "lo")
        for index, one in enumerate(self.names):
            for other in self.names[index + 1 :]:
                ends = [[f"to{there}", "netns", self._prefix + here] for here, there in ((one, other), (other, one))]
                _ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
                for here, there in ((one, other), (other, one)):
                    _ip("-n", self._prefix + here, "link", "set", f"to{there}", "up")
                for here, there in ((one, other), (other, one)):
                    self._route(here, there)

    def _route(self, here: str, there: str) -> None:
        addresses = f"{self.addresses[there]}/32", self.addresses[here]
        _ip(
            "-n",
            self._prefix + here,
            "route",
            "replace",
            addresses[0],
            "dev",
            self._device(here, there),
            "src",
            addresses[1],
        )


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Hosts with these names; skips where they cannot be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Network(names)
    with ExitStack() as stack:
        try:
            made.open(stack)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield made
