"""Three hosts with CURVE on all links: A has capture and clustering, B, behind a link that loses packets, two replicas of segmentation,
C embedding.
"""

import json
import subprocess
import time
from pathlib import Path

from diart_mp.keys import new_key
from tests.cli.command import COMMAND, TONES, Diart
from tests.fakes import conversation
from tests.hosts.namespaces import network
from tests.hosts.rig import started, write_plan

TUN = Path("/dev/net/tun")
PLACES = {"segmentation": ["B", "B"], "embedding": ["C"]}


def test_three_hosts_say_the_same_while_a_link_is_cut_and_a_host_dies(diart: Diart, tmp_path: Path) -> None:
    with network("A", "B", "C") as hosts:
        audio, plan = tmp_path / "talk.wav", tmp_path / "plan.toml"
        conversation(audio, seconds=30.0, seed=8)
        run = ("run", audio, "--latency", "1", "--json", "--output")
        local = diart(*run, tmp_path / "local", *TONES)
        assert local.code == 0, local.err
        write_plan(plan, PLACES, {"": hosts.addresses["A"], **hosts.addresses}, keys="keys", home="A", max_in_flight=8)
        for place in "ABC":
            new_key(tmp_path / "keys", place)
        replicas = ("segmentation/0", "segmentation/1")
        command = [*hosts.on("A"), *map(str, (COMMAND, *run, tmp_path / "out", "--topology", plan))]
        slow = (*hosts.on("B"), "env", "DIART_MP_FAULTS=segmentation:slow=0.1")
        with (
            started(diart, plan, "embedding", prefix=hosts.on("C")),
            started(diart, plan, *replicas, prefix=slow) as first,
            subprocess.Popen(command, env=diart.environment(), stdout=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(8)]
            if TUN.exists():
                hosts.worsen("B", delay_s=0.005, loss=0.01)
            lines += [process.stdout.readline() for _ in range(8)]
            hosts.cut("B")
            time.sleep(1.0)  # so long is the fault
            hosts.heal("B")
            lines += [process.stdout.readline() for _ in range(8)]
            for name in replicas:
                first[name].kill()
            with started(diart, plan, *replicas, prefix=hosts.on("B")):
                lines += process.stdout.readlines()
                assert process.wait(60) == 0
        assert hosts.lost() > 0 or not TUN.exists()
        assert (tmp_path / "out" / "talk.rttm").read_bytes() == (tmp_path / "local" / "talk.rttm").read_bytes()
        seqs = [json.loads(line).get("seq") for line in lines if b'"seq"' in line]
        assert seqs == list(range(len(seqs)))
