"""A link between two network namespaces that delays and loses packets, made of two TUN devices: for kernels without netem. For root on Linux."""

import fcntl
import heapq
import os
import random
import selectors
import struct
import threading
import time
from types import TracebackType
from typing import Self

_SET_NAME, _TUN, _WITHOUT_HEADER = 0x400454CA, 0x0001, 0x1000  # of linux/if_tun.h
_PACKET = 65_535  # bytes at most
_MOST = 1000  # packets under way in one direction: what more there is is lost, as in a router


class SlowLink:
    """Two devices of this namespace, to be moved to others: what enters one leaves the other ``delay_s`` later, unless it is lost."""

    def __init__(self, names: tuple[str, str], *, delay_s: float, loss: float, seed: int = 0) -> None:
        self._files = [_device(name) for name in names]
        self._delay_s, self._loss, self._random = delay_s, loss, random.Random(seed)
        self._due: list[tuple[float, int, int, bytes]] = []  # monotonic s, number, whither, packet
        self._under_way = [0, 0]
        self.passed = self.lost = 0  # packets
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name="slow link")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._wake)
        self._thread.join()
        for each in (*self._files, self._woken):
            os.close(each)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, file in enumerate(self._files):
                selector.register(file, selectors.EVENT_READ, number)
            selector.register(self._woken, selectors.EVENT_READ, None)
            while True:
                wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
                for key, _ in selector.select(wait):
                    if key.data is None:
                        return
                    self._take(key.data)
                self._deliver()

    def _take(self, side: int) -> None:
        """All packets that wait at one side."""
        while True:
            try:
                packet = os.read(self._files[side], _PACKET)
            except OSError:  # none any more, or the device is down
                return
            if self._random.random() < self._loss or self._under_way[side] >= _MOST:
                self.lost += 1
                continue
            self.passed += 1
            self._under_way[side] += 1
            heapq.heappush(self._due, (time.monotonic() + self._delay_s, self.passed, 1 - side, packet))

    def _deliver(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, side, packet = heapq.heappop(self._due)
            self._under_way[1 - side] -= 1
            try:
                os.write(self._files[side], packet)
            except OSError:  # the device is down
                self.lost += 1


def _device(name: str) -> int:
    """A TUN device with this name; its file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(file, _SET_NAME, struct.pack("16sH22x", name.encode(), _TUN | _WITHOUT_HEADER))
    except OSError:
        os.close(file)
        raise
    return file
