"""A process that does trials of a study: ``python -m diart_mp.evaluation.worker``, with the study as JSON on one line.

It ends when the study does, or with the process that started it, whose end closes standard input.
"""

import json
import os
import select
import signal
import sys
import warnings
from types import FrameType

from diart_mp.errors import DiartMpError


def main() -> int:
    """Do trials; the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    line = sys.stdin.readline()
    if not line:
        return 0
    try:
        from diart_mp.evaluation.optimizer import Optimizer

        spec = json.loads(line)
        num_iter = spec.pop("num_iter")
        Optimizer.from_spec(spec)(num_iter, should_end=_is_alone).close()
    except KeyboardInterrupt:
        return 130
    except DiartMpError as error:
        sys.stderr.write(f"diart-mp: error: {error}\n")
        return error.exit_code
    return 0


def _is_alone() -> bool:
    """Whether the process that started this one is gone."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and os.read(sys.stdin.fileno(), 1) == b""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
