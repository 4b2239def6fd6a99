"""Write a saw tooth (sample i is i % 10007) into a ring until killed. Usage: ramp_writer.py NAME CAPACITY WINDOW SEED."""

import random
import sys

import numpy as np

from diart_mp.transport.ring import RingWriter

PERIOD = 10_007  # prime: what was overwritten is never what overwrote it


def main() -> None:
    """Blocks of all sizes up to three windows; "ready" after the first window."""
    capacity, window, seed = map(int, sys.argv[2:])
    writer = RingWriter(sys.argv[1], capacity=capacity, window=window, rate=16_000, generation=1)
    chance = random.Random(seed)
    size = window
    while True:
        writer.write((np.arange(writer.head, writer.head + size) % PERIOD).astype(np.float32))
        if writer.head == window:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        size = chance.randint(1, 3 * window)


if __name__ == "__main__":
    main()
