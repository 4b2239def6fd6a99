"""The stack on which a thread's signal handlers run, kept as it is while a library loads that would change it.

OpenVINO gives the thread that compiles a network an alternate signal stack, for the registers of AVX-512 and AMX, and frees
that memory with the network. The thread goes on with a stack that is gone: from then on the next signal, be it
Ctrl-C, ends the process with a segmentation fault. Knows nothing of models. Runs wherever networks are compiled.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """Linux's stack_t."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Afterwards this thread's signal stack is what it was before, whatever was called in between. On Linux; elsewhere nothing."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
