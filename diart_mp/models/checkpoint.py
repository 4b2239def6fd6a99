"""Reading old PyTorch checkpoints without executing what is pickled in them.

What is here: one function on top of ``torch.load(weights_only=True)``. A checkpoint of a training framework holds,
beside tensors and plain values, objects of classes that may not be installed. They become inert stand-ins that keep
their state and do nothing. What the tensors mean is unknown here. Runs where models are loaded or unpacked.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from diart_mp.errors import ModelError

# Real types that are harmless to make and that other values are made of.
_PLAIN: Mapping[str, type] = MappingProxyType(
    {
        "builtins.dict": dict,
        "builtins.list": list,
        "builtins.tuple": tuple,
        "builtins.int": int,
        "builtins.float": float,
    }
)


class StandIn:
    """Takes the place of an object whose class is not to be imported; keeps what was pickled, does nothing."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> Self:
        """Accept whatever the pickled object was made with."""
        stand_in = super().__new__(cls)
        stand_in.args = args
        stand_in.state = None
        return stand_in

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_checkpoint(path: Path, known: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """Read the mapping that ``torch.save`` wrote to `path`, with its tensors on the CPU.

    Args:
        path: a checkpoint, in torch's zip format or the older one.
        known: real classes to use, by full name (``package.module.Class``); all others become stand-ins.

    Raises:
        ModelError: no such file, not a checkpoint, or one that only reads by executing code.

    """
    import torch

    try:
        allowed: list[Any] = [(known.get(n) or _PLAIN.get(n) or _stand_in(n), n) for n in _foreign_names(path)]
        with torch.serialization.safe_globals(allowed):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"cannot read the model file {path}: {error.strerror or error}"
        raise ModelError(msg) from error
    except Exception as error:  # bytes that are no checkpoint make torch's reader raise almost anything
        msg = (
            f"{path} cannot be read as a checkpoint of weights ({type(error).__name__} in torch.load); "
            "it is damaged, of another format, or needs pickled code, which is never executed: save its weights anew"
        )
        raise ModelError(msg) from error
    if not isinstance(checkpoint, dict):
        msg = f"{path} holds a {type(checkpoint).__name__}, not the mapping of a checkpoint; save it with torch.save(dict)"
        raise ModelError(msg)
    return checkpoint


def _foreign_names(path: Path) -> list[str]:
    """Full names in the checkpoint that torch does not know; none for the older format, which torch cannot list."""
    import torch

    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return list(torch.serialization.get_unsafe_globals_in_checkpoint(path)) if is_zip else []


def _stand_in(full_name: str) -> type[StandIn]:
    module, _, name = full_name.rpartition(".")
    return type(name, (StandIn,), {"__module__": module})
