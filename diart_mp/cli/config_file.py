"""The configuration file of a command: its options under the same names, for what is not given on the command line."""

from pathlib import Path
from typing import Any

import click

from diart_mp.config import check_names
from diart_mp.errors import UsageError
from diart_mp.topology import read_toml


def from_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Options not given on the command line come from the TOML file, under the same names."""
    if path is None:
        return
    values = {name.replace("_", "-"): value for name, value in read_toml(path).items()}
    options = [parameter for parameter in ctx.command.params if isinstance(parameter, click.Option)]
    known = {max(option.opts, key=len)[2:]: option for option in options if option.name != "config"}
    try:
        check_names(values, known, "option")
        defaults = {known[name].name: _typed(name, value, known[name]) for name, value in values.items()}
    except UsageError as error:
        msg = f"{path}: {error}"
        raise UsageError(msg) from error
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _typed(name: str, value: Any, option: click.Option) -> Any:
    """A value of the file as its option takes it; UsageError where it is of another type."""
    kinds, wanted = _kinds(name, option)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        msg = f"{name} must be {wanted}, not {value!r:.40}"
        raise UsageError(msg)
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _kinds(name: str, option: click.Option) -> tuple[tuple[type, ...], str]:
    """The types of TOML that an option takes, and what to call them."""
    special: dict[str, tuple[tuple[type, ...], str]] = {
        "latency": ((int, float, str), "a number of seconds, or 'min' or 'max'"),
        "mic": ((int, str), "the number or the name of a device, or ''"),
        "format": ((str, list), "names of formats"),
    }
    if name in special:
        return special[name]
    if option.is_flag:
        return (bool,), "true or false"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(option.type, click.types.IntParamType):
        return (int,), "a whole number"
    return (str,), "text in quotes"
