"""Fixtures that every folder of tests uses."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Several workers share the cores, and to start a thread for each core costs every process 50 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("tests", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("tests")

_LONGEST = ("faults", "web", "browser", "cli", "models")  # folders whose files take longest
_TOGETHER = (r"tests/models/", r"tests/web/", r"tests/cli/test_(audio_forms|recordings|startup)\.py")
"""Files that share what takes seconds to make: torch and checkpoints, a server, a run of two recordings. One worker makes it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest first, so that no worker is left alone with them in the end; otherwise in order."""
    items.sort(key=lambda item: item.path.parent.name not in _LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each file to one worker, and files that share something to the same one (xdist's ``--dist loadfile`` with larger shares)."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda nodeid: next(
        (each for each in _TOGETHER if re.match(each, nodeid)), nodeid.partition("::")[0]
    )
    return scheduler


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real recordings and golden outputs beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DIART_MP_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data" / "sample.wav").exists():
        pytest.skip(f"no recordings at {folder} (set DIART_MP_SHARED)")
    return folder


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: sockets in it must have paths of at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class VirtualMicrophone:
    """A private PulseAudio server whose default input gives back what is played into it.

    env: the environment in which a process finds this microphone (PortAudio's devices "default" and "pulse"), and
    no other one. server: the daemon, for tests of its death.
    """

    env: dict[str, str]
    server: subprocess.Popen[bytes]

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Start to play a WAV file into the microphone, at the speed of the clock."""
        return subprocess.Popen(["paplay", path], env=self.env)


@contextmanager
def start_virtual_microphone() -> Iterator[VirtualMicrophone]:
    """The server, ready to record; skips where PulseAudio, its ALSA plug-in, PortAudio or sounddevice is missing."""
    for program in ("pulseaudio", "pactl", "paplay", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (apt install pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="microphone-")))
        (folder / "asound.conf").write_text("pcm.!default { type pulse }\npcm.pulse { type pulse }\n")
        socket = folder / "native"
        sound = {
            "PULSE_SERVER": f"unix:{socket}",
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }
        env = os.environ | sound
        own = env | dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"), str(folder))
        modules = [
            "module-null-sink rate=48000 channels=2",
            f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        ]
        command = [
            "pulseaudio",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--disable-shm=yes",
            "-n",
        ]
        log = stack.enter_context((folder / "log").open("wb"))
        server = subprocess.Popen([*command, *(word for one in modules for word in ("-L", one))], env=own, stderr=log)
        stack.callback(end_process, server)
        deadline = time.monotonic() + 20
        while subprocess.run(["pactl", "info"], env=env, capture_output=True).returncode != 0:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
        # The sink hands on its samples every 2 s only, but for a listener in a hurry, even one that nobody listens to.
        listener = subprocess.Popen(["parec", "--latency-msec=20"], env=env, stdout=subprocess.PIPE)
        stack.callback(end_process, listener)
        assert listener.stdout is not None
        listener.stdout.read(1)
        probe = [sys.executable, "-c", "import sounddevice; sounddevice.query_devices('pulse', 'input')"]
        found = subprocess.run(probe, env=env, capture_output=True, text=True)
        if found.returncode != 0:
            pytest.skip(f"no PortAudio that sees PulseAudio: {found.stderr.splitlines()[-1]}")
        yield VirtualMicrophone(env, server)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of the fixtures and collect it."""
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def virtual_microphone() -> Iterator[VirtualMicrophone]:
    """A microphone for the whole run of the tests; silent unless a test plays something."""
    with start_virtual_microphone() as microphone:
        yield microphone


@pytest.fixture
def mortal_microphone() -> Iterator[VirtualMicrophone]:
    """A microphone of one test, whose ``server`` it may kill."""
    with start_virtual_microphone() as microphone:
        yield microphone
