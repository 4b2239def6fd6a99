"""The signal stack of a thread that compiles networks: one that OpenVINO frees again must not stay, or the next signal kills."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, faulthandler, gc, os, signal, sys
from diart_mp.models.load import load_embedding, load_segmentation

def signal_stack():
    now = (ctypes.c_size_t * 3)()
    assert ctypes.CDLL(None).sigaltstack(None, now) == 0
    return list(now)

if sys.argv[1] == "faulthandler":
    faulthandler.enable()
before = signal_stack()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("heard"))
models = [load_segmentation("builtin"), load_embedding("builtin")]
assert signal_stack() == before
os.kill(os.getpid(), signal.SIGTERM)
del models
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
assert heard == ["heard"] * 2
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's stack_t")
@pytest.mark.parametrize("handler", ["faulthandler", "none"])
def test_it_is_what_it_was_and_signals_are_handled(handler: str) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, handler], check=True, timeout=60)
