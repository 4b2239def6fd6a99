"""The ten lines of the page on hosts, typed on two hosts."""

import re
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.cli.command import COMMAND, ROOT, Diart
from tests.fakes import conversation
from tests.hosts.namespaces import Network, network

PAGE = (ROOT / "docs" / "hosts.md").read_text()
ADDRESSES = {"laptop": "192.168.1.10", "gpu": "192.168.1.20"}


class Walk:
    """Two hosts with home folders; what is typed there is run there."""

    def __init__(self, hosts: Network, folder: Path, diart: Diart, stack: ExitStack) -> None:
        self.hosts, self.homes, self._diart, self._stack = (
            hosts,
            {name: folder / name for name in ADDRESSES},
            diart,
            stack,
        )

    def type(self, host: str, line: str) -> None:
        """Run a line on a host; one that starts a stage stays in the background."""
        words = [word.replace("~", str(self.homes[host])) for word in shlex.split(line)]
        if words[0] == "scp":
            other = words[-1].removesuffix(":")
            words = ["cp", words[1], str(self.homes[other])]
        command = [*self.hosts.on(host), *(str(COMMAND) if word == "diart-mp" else word for word in words)]
        home = {"HOME": str(self.homes[host]), "XDG_CONFIG_HOME": str(self.homes[host] / ".config")}
        process = subprocess.Popen(
            command, cwd=self.homes[host], env=self._diart.environment(**home), stdout=subprocess.DEVNULL
        )
        if words[1] == "stage":
            self._stack.callback(process.wait, 10)
            self._stack.callback(process.terminate)
        else:
            assert process.wait(60) == 0, line


def test_ten_lines_join_two_hosts(diart: Diart, tmp_path: Path) -> None:
    lines = re.findall(r"^(laptop|gpu)\$ (.*)$", PAGE, flags=re.MULTILINE)
    assert len(lines) == 10
    plan = re.search(r"^```toml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert plan is not None
    with network("laptop", "gpu") as hosts, ExitStack() as stack:
        walk = Walk(hosts, tmp_path, diart, stack)
        for home in walk.homes.values():
            home.mkdir()
        text = plan[1]
        for name, address in ADDRESSES.items():
            text = text.replace(address, hosts.addresses[name])
        for name in ("Segmentation", "Embedding"):
            text = text.replace(
                f'name = "{name.lower()}"\n', f'name = "{name.lower()}"\nmodel = "tests.fakes:Tone{name}"\n'
            )
        (walk.homes["laptop"] / "two.toml").write_text(text)
        conversation(walk.homes["laptop"] / "talk.wav", seconds=8.0, seed=3)
        for host, line in lines:
            walk.type(host, line)
        assert (walk.homes["laptop"] / "out" / "talk.rttm").read_text().startswith("SPEAKER talk 1 ")
