"""The ``diart-mp`` command: its sub-commands are imported only when they are called, so that help comes at once.

Whatever goes wrong ends a command with one line on standard error and an exit code. Runs in the process of the user's command.
"""

import gc
import importlib
import io
import os
import sys
from typing import Any

import click

from diart_mp import __version__
from diart_mp.cli.entry import INTERRUPTED, hand_over
from diart_mp.errors import DiartMpError

# Name: (module with a click command ``command``, one line of help).
_COMMANDS = {
    "run": ("diart_mp.cli.run", "Diarize recordings, a microphone or a pipe."),
    "evaluate": ("diart_mp.cli.evaluate", "Diarize a corpus and score it, or score what is there."),
    "serve": ("diart_mp.cli.serve", "Diarize what many clients stream over WebSockets; serves a page."),
    "client": ("diart_mp.cli.client", "Stream a recording or a microphone to a server."),
    "tune": ("diart_mp.cli.tune", "Find hyper-parameters that suit a corpus."),
    "bench": ("diart_mp.cli.bench", "Measure throughput, latency or capacity on this machine."),
    "devices": ("diart_mp.cli.devices", "List the microphones of this machine."),
    "models": ("diart_mp.cli.models", "Bring or list the built-in models."),
    "speakers": ("diart_mp.cli.speakers", "Enrol people, list them, take them out."),
    "top": ("diart_mp.cli.top", "Show the pipelines that run on this machine."),
    "stage": ("diart_mp.cli.stage", "Run one stage of a pipeline as a process of its own."),
    "topology": ("diart_mp.cli.topology", "Check and explain the topology of a pipeline on several hosts."),
    "drain": ("diart_mp.cli.drain", "End a stage that was started by hand, when it has finished what it has."),
    "keys": ("diart_mp.cli.keys", "Make, show and authorize the keys of hosts."),
    "completion": ("diart_mp.cli.completion", "Print the completion script for a shell."),
}
BROKEN_PIPE = 141  # what a shell sees of a program that SIGPIPE ended


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        # Commands multiply small matrices, and to start a thread per core costs them 50 ms. A stage has threads of its own.
        if name != "stage":
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        command: click.Command = importlib.import_module(_COMMANDS[name][0]).command
        hand_over()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Nobody reads any more. Standard output would be flushed once more at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="diart-mp")
def group() -> None:
    """Who speaks when, while they speak: online speaker diarization as a pipeline of processes."""


def main(arguments: list[str] | None = None) -> None:
    """All that ``diart-mp`` does, to the exit of the process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show is no failure
    code = run(arguments)
    gc.freeze()  # what is left ends with the process; to search it for garbage first takes 15 ms
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; its exit code."""
    try:
        result: Any = group.main(arguments, prog_name="diart-mp", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        text = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{text}{_help_of(error)}", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except DiartMpError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:  # of the command itself: standard output on a full disk, a temporary folder that is gone
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 1)
    return result if isinstance(result, int) else 0


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"diart-mp: error: {text}\n")
    return code


def _help_of(error: click.ClickException) -> str:
    """Where to read what a command takes."""
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context is not None else ""
