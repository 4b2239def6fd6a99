"""What ``topology export`` writes is accepted by those that it is for."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, Diart

PLAN = """
version = 1
home = "laptop"
keys = "keys"
anywhere = true
results = "tcp://laptop.example:7100"
report = "tcp://laptop.example:7101"

[[stage]]
name = "capture"
bind = "tcp://laptop.example:7102"

[[stage]]
name = "segmentation"
place = "B"
threads = 2
[[stage.replica]]
bind = "tcp://diart-mp-segmentation-0:7103"
[[stage.replica]]
bind = "tcp://diart-mp-segmentation-1:7103"
device = "cuda:0"

[[stage]]
name = "embedding"
place = "C"
bind = "tcp://diart-mp-embedding:7104"

[[stage]]
name = "clustering"
place = "C"
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / '50 % of $X\'s \\ "all".toml'
    file.write_text(PLAN)
    return file


def test_systemd_accepts_the_units(diart: Diart, plan: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    done = diart("topology", "export", plan, "systemd", "--output", tmp_path / "units", "--installed", COMMAND)
    assert done.code == 0, done.err
    units = [Path(line) for line in done.out.splitlines()]
    assert [str(unit.relative_to(tmp_path / "units")) for unit in units] == [
        "B/diart-mp-segmentation-0.service",
        "B/diart-mp-segmentation-1.service",
        "C/diart-mp-embedding.service",
        "C/diart-mp-clustering.service",
    ]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    said = [line for line in verified.stderr.splitlines() if "diart-mp" in line]
    assert (verified.returncode, said) == (0, [])
    name = r"""50 %% of $$X's \\ \"all\".toml"""
    assert f'stage segmentation/1 --topology "{tmp_path}/{name}"\n' in units[1].read_text()
    assert (
        "PrivateTmp" not in units[1].read_text()
    )  # Unix sockets of two stages, and diart-mp drain, meet in one folder
    units[0].write_text(units[0].read_text().replace("Restart=always", "Restart=sometimes"))  # the check can fail
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units[0]], capture_output=True, text=True, timeout=60
    )
    assert "sometimes" in verified.stderr


def manifests(diart: Diart, plan: Path, folder: Path) -> list[dict[str, Any]]:
    """All objects that are written."""
    done = diart("topology", "export", plan, "kubernetes", "--output", folder, "--namespace", "speech")
    assert done.code == 0, done.err
    assert "--from-file=authorized-laptop=laptop.public" in done.err
    written = [json.loads(Path(line).read_text()) for line in done.out.splitlines()]
    return [each for one in written for each in one.get("items", [one])]


def test_manifests_pass_the_schema_of_kubernetes(diart: Diart, plan: Path, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    objects = manifests(diart, plan, tmp_path / "k8s")
    assert [each["kind"] for each in objects] == ["ConfigMap", *["Deployment", "Service"] * 3, "Deployment"]
    for each in objects:
        validate.validate(each, "1.30", strict=True)
    objects[1]["spec"]["template"]["spec"]["containers"][0]["image"] = 3
    with pytest.raises(validate.ValidationError):
        validate.validate(objects[1], "1.30", strict=True)


def test_manifests_have_probes_resources_and_the_keys_of_their_place(diart: Diart, plan: Path, tmp_path: Path) -> None:
    objects = manifests(diart, plan, tmp_path / "k8s")
    assert 'keys = "/etc/diart-mp/keys"' in objects[0]["data"]["topology.toml"]
    second = next(each for each in objects if each["metadata"]["name"] == "diart-mp-segmentation-1")
    pod = second["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][2] == "segmentation/1"
    assert container["livenessProbe"]["tcpSocket"] == {"port": 7103}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["cpu"] == "2"
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["secretName"] == "diart-mp-keys-b"
    assert secret["defaultMode"] == 0o400
    assert {item["path"] for item in secret["items"]} == {
        "B.secret", "B.public", "authorized/C.public", "authorized/laptop.public"
    }  # fmt: skip


def test_what_cannot_be_exported_is_told(diart: Diart, plan: Path, tmp_path: Path) -> None:
    plan.write_text(PLAN.replace("anywhere = true", ""))
    done = diart("topology", "export", plan, "kubernetes", "--output", tmp_path / "k8s")
    assert (done.code, len(done.complaints)) == (2, 1)
    assert "must say 'anywhere = true'" in done.err
    plan.write_text(PLAN.replace("diart-mp-embedding", "embedding"))
    done = diart("topology", "export", plan, "kubernetes", "--output", tmp_path / "k8s")
    assert (done.code, len(done.complaints)) == (2, 1)
    assert "make its 'bind' tcp://diart-mp-embedding:7104, not tcp://embedding:7104" in done.err
    plan.write_text(PLAN.replace("cuda:0", "cuda:1"))
    done = diart("topology", "export", plan, "kubernetes", "--output", tmp_path / "k8s")
    assert (done.code, len(done.complaints)) == (2, 1)
    assert "segmentation/1 has device 'cuda:1', but sees one GPU alone, that of its pod" in done.err
