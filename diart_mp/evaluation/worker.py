"""A process that does trials of a study: ``python -m diart_mp.evaluation.worker``, with the study as JSON on one line.

It ends when the study does, or at once, whatever it does, with the process that started it: that closes standard input.
"""

import json
import os
import signal
import sys
import threading
import warnings
from types import FrameType

from diart_mp.errors import DiartMpError

_ENDS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Do trials; the exit code."""
    for number in _ENDS:
        signal.signal(number, _interrupt)
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    line = sys.stdin.readline()
    if not line:
        return 0
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from diart_mp.evaluation.optimizer import Optimizer

        spec = json.loads(line)
        num_iter = spec.pop("num_iter")
        Optimizer.from_spec(spec)(num_iter).close()
    except KeyboardInterrupt:
        return 130
    except DiartMpError as error:
        sys.stderr.write(f"diart-mp: error: {error}\n")
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    """Interrupt this process, in the middle of a model if need be, once the one that started it is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: Ctrl-C reaches all processes, and is followed by the end of the one that started this."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
