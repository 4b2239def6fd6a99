"""What keeps the stages of a topology running on their hosts: systemd units and Kubernetes manifests, as texts to be written to files.

They start the same command that a person would: ``diart-mp stage NAME --topology FILE``. What has no place is left to ``diart-mp run``. No key
is written: units and pods read the key files of their host, or a secret of the cluster that the person makes of them. Knows nothing
of sockets or processes; runs in ``diart-mp topology export``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diart_mp.endpoints import host_of
from diart_mp.errors import UsageError
from diart_mp.places import label
from diart_mp.topology import StageConfig, Topology

_IMAGE_FOLDER = "/etc/diart-mp"  # of a container: topology and keys
_PORT = re.compile(r"tcp://(.*):(\d+)")
_OWN_KEYS = re.compile(r"(?m)^[ \t]*keys[ \t]*=.*$")  # the first one is of the whole: those of tables come later
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:@=,+-]+")
_NOT_A_LABEL = re.compile(r"[^a-z0-9-]+")
_MEMORY = {"cpu": "2Gi"}  # of a stage; with an accelerator more, since its libraries are large
_ACCELERATOR_MEMORY = "6Gi"

_UNIT = """\
[Unit]
Description=diart-mp {process} at {place}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
User={user}
Restart=always
RestartSec=1
KillSignal=SIGUSR2
TimeoutStopSec=30
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=full
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a topology that somebody else than ``diart-mp run`` starts."""

    stage: StageConfig
    replica: int

    @property
    def name(self) -> str:
        """As ``diart-mp stage`` takes it."""
        return label(self.stage, self.replica)

    @property
    def place(self) -> str:
        """Where it runs."""
        return self.stage.place_of(self.replica)

    @property
    def file_name(self) -> str:
        """Its name as a part of file names."""
        return f"diart-mp-{self.name.replace('/', '-')}"


def processes(topology: Topology) -> list[Process]:
    """All processes with a place; UsageError if there are none."""
    found = [
        Process(stage, replica)
        for stage in topology.stages
        for replica in range(stage.replicas)
        if stage.place_of(replica) and not stage.foreign
    ]
    if not found:
        msg = "no stage of this topology has a 'place', so diart-mp run starts them all and there is nothing to export"
        raise UsageError(msg)
    return found


def systemd_units(topology: Topology, file: Path, *, program: Path, user: str) -> dict[str, str]:
    """Unit files by their paths (PLACE/NAME.service); ``file`` and ``program`` are where topology and command lie on the hosts."""
    units = {}
    for process in processes(topology):
        words = [str(program), "stage", process.name, "--topology", str(file)]
        units[f"{process.place}/{process.file_name}.service"] = _UNIT.format(
            process=process.name,
            place=process.place,
            command=" ".join(map(_systemd_word, words)),
            user=user,
        )
    return units


def kubernetes_manifests(topology: Topology, file: Path, *, image: str, namespace: str) -> dict[str, str]:
    """Manifests by file name, as JSON, which ``kubectl apply -f`` takes: a ConfigMap, and a Deployment and a Service per process."""
    if not topology.anywhere:
        msg = f"in a cluster others reach a stage by the name of its service, so {file} must say 'anywhere = true' (before the first [[stage]])"
        raise UsageError(msg)
    text = file.read_text(encoding="utf-8")
    if topology.keys:
        text = _OWN_KEYS.sub(f'keys = "{_IMAGE_FOLDER}/keys"', text, count=1)
    common = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("diart-mp-topology", namespace)}
    found = {"topology.json": _json({**common, "data": {"topology.toml": text}})}
    for process in processes(topology):
        check_device(process, "that of its pod")
        _check_service(process)
        objects = [_deployment(topology, process, image, namespace), *_service(process, namespace)]
        found[f"{_label(process.file_name)}.json"] = _json({"apiVersion": "v1", "kind": "List", "items": objects})
    return found


def check_device(process: Process, what: str) -> None:
    """UsageError where a process asks for one GPU by its number and sees but one of its own; ``what``: whose choice that is."""
    device = process.stage.device_of(process.replica)
    if device.startswith("cuda:") and device != "cuda:0":
        msg = f"{process.name} has device '{device}', but sees one GPU alone, {what}; make it 'cuda'"
        raise UsageError(msg)


def _check_service(process: Process) -> None:
    """UsageError where others would look for a process elsewhere than at its Service."""
    service, endpoint = _label(process.file_name), process.stage.endpoint(process.replica)
    if _port(process) and host_of(endpoint).partition(".")[0] != service:
        msg = f"in a cluster {process.name} is reached by the name of its service: make its 'bind' tcp://{service}:{_port(process)}, not {endpoint}"
        raise UsageError(msg)


def secrets_to_make(topology: Topology, namespace: str) -> list[str]:
    """The commands that turn key files into the secrets which the manifests name."""
    if not topology.keys:
        return []
    places = sorted({process.place for process in processes(topology)})
    return [
        f"kubectl create secret generic {_secret(place)} --namespace {namespace} --from-file={place}.secret --from-file={place}.public "
        + " ".join(
            f"--from-file=authorized-{other}={other}.public" for other in (topology.home, *places) if other != place
        )
        for place in places
    ]


def _deployment(topology: Topology, process: Process, image: str, namespace: str) -> dict[str, Any]:
    name = _label(process.file_name)
    pod: dict[str, Any] = {
        "containers": [_container(topology, process, image)],
        "volumes": list(_volumes(topology, process)),
        "terminationGracePeriodSeconds": 5,
    }
    if _accelerated(process):
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    spec = {
        "replicas": 1,
        "strategy": {
            "type": "Recreate"
        },  # a new process takes the place of the old one; the owner sends again what was lost
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(name, namespace), "spec": spec}


def _container(topology: Topology, process: Process, image: str) -> dict[str, Any]:
    memory = _ACCELERATOR_MEMORY if _accelerated(process) else _MEMORY["cpu"]
    wanted = {"cpu": str(process.stage.threads), "memory": memory}
    limits = {"memory": memory, **({"nvidia.com/gpu": "1"} if _accelerated(process) else {})}
    container: dict[str, Any] = {
        "name": "stage",
        "image": image,
        "command": ["diart-mp", "stage", process.name, "--topology", f"{_IMAGE_FOLDER}/topology.toml"],
        "resources": {"requests": wanted, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {
                "name": "topology",
                "mountPath": f"{_IMAGE_FOLDER}/topology.toml",
                "subPath": "topology.toml",
                "readOnly": True,
            },
            *([{"name": "keys", "mountPath": f"{_IMAGE_FOLDER}/keys", "readOnly": True}] if topology.keys else []),
        ],
    }
    port = _port(process)
    if port:
        probe = {"tcpSocket": {"port": port}, "periodSeconds": 10, "failureThreshold": 3}
        container["ports"] = [{"containerPort": port, "name": "chunks"}]
        container["startupProbe"] = {**probe, "failureThreshold": 60}  # a model may have to be downloaded
        container["readinessProbe"] = container["livenessProbe"] = probe
    return container


def _volumes(topology: Topology, process: Process) -> Iterator[dict[str, Any]]:
    yield {"name": "topology", "configMap": {"name": "diart-mp-topology"}}
    if topology.keys:
        place = process.place
        others = {topology.home, *(each.place for each in processes(topology))} - {place}
        items: list[dict[str, Any]] = [
            {"key": f"{place}.{half}", "path": f"{place}.{half}"} for half in ("secret", "public")
        ]
        items += [{"key": f"authorized-{other}", "path": f"authorized/{other}.public"} for other in sorted(others)]
        yield {"name": "keys", "secret": {"secretName": _secret(place), "defaultMode": 0o400, "items": items}}


def _service(process: Process, namespace: str) -> Iterator[dict[str, Any]]:
    port = _port(process)
    if port:
        name = _label(process.file_name)
        ports = [{"name": "chunks", "port": port, "targetPort": port, "protocol": "TCP"}]
        spec = {"selector": {"app": name}, "ports": ports}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(name, namespace), "spec": spec}


def _port(process: Process) -> int:
    """Where the process listens; 0 for the last stage, and for Unix sockets."""
    found = _PORT.fullmatch(process.stage.endpoint(process.replica))
    return int(found[2]) if found else 0


def _accelerated(process: Process) -> bool:
    return process.stage.device_of(process.replica).startswith("cuda")


def _metadata(name: str, namespace: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "diart-mp"}}


def _secret(place: str) -> str:
    return _label(f"diart-mp-keys-{place}")


def _label(name: str) -> str:
    """A name as Kubernetes takes it."""
    return _NOT_A_LABEL.sub("-", name.lower()).strip("-")[:63]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _systemd_word(word: str) -> str:
    """One word of a command line of a unit: quoted, and with what systemd expands doubled."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    return (word if _PLAIN_WORD.fullmatch(word) else f'"{quoted}"').replace("%", "%%").replace("$", "$$")
