"""Converting a checkpoint of pyannote.audio, as a process that ends: nothing of torch stays in the memory of a stage.

    python -m diart_mp.models.convert ROLE CHECKPOINT FOLDER PREFIX SUFFIX

What is here: the command. Its last line says the outcome, as JSON: ``file``, ``refused`` (it has to run in torch), or ``error`` (it is
no such model). What converting means is unknown here (``conversion``). A stage runs it, and it does not outlive that stage.
"""

import json
import os
import sys
import threading
from pathlib import Path

from diart_mp.errors import ModelError


def outcome(role: str, checkpoint: Path, folder: Path, prefix: str, suffix: str) -> dict[str, str]:
    """Convert and write; what came of it."""
    import torch

    from diart_mp.models.conversion import Refused, convert

    torch.set_num_threads(1)
    try:
        converted = convert(checkpoint, role)
    except Refused as reason:
        return {"refused": str(reason)}
    except ModelError as error:
        return {"error": str(error)}
    path = folder / f"{prefix}-{converted.architecture}-{suffix}.safetensors"
    converted.write(path)
    return {"file": str(path)}


def main(role: str, checkpoint: str, folder: str, prefix: str, suffix: str) -> None:
    """Convert, and say what came of it."""
    threading.Thread(target=_end_with_the_stage, daemon=True).start()  # before what takes seconds to import
    found = outcome(role, Path(checkpoint), Path(folder), prefix, suffix)
    sys.stdout.write(f"\n{json.dumps(found)}\n")
    sys.stdout.flush()


def _end_with_the_stage() -> None:
    """The pipe of the standard input ends when whoever started this is gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
