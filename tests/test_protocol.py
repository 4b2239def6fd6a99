"""The golden bytes of the protocol page are those that links send, and its page of stages runs as written."""

import re
import subprocess
import sys
from pathlib import Path

from diart_mp.messages import pack_control
from tests.fakes import conversation

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_golden_bytes() -> None:
    room, hello = re.findall(r"^```hex\n(.*?)^```", (DOCS / "protocol.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    packed = pack_control("room", replica=0, epoch=7, **{"for": 3}, received=5, limit=21)
    assert bytes.fromhex(room) == packed
    assert bytes.fromhex(hello) == pack_control("hello", **{"from": ["segmentation", 3]})


def test_python_of_the_page_runs(tmp_path: Path) -> None:
    stage, check, program = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "own_stage.md").read_text(), flags=re.DOTALL | re.MULTILINE
    )
    (tmp_path / "my_stages.py").write_text(stage)
    (tmp_path / "check.py").write_text(check)
    conversation(tmp_path / "talk.wav", seconds=6.0, seed=1)
    tones = "from diart_mp.pipeline import PipelineConfig\nfrom tests.fakes import TONE_MODELS\n"
    fast = program.replace("Pipeline()", "Pipeline(PipelineConfig(models=TONE_MODELS))")
    (tmp_path / "program.py").write_text(tones + fast)
    for name in ("check.py", "program.py"):
        environment = {"PYTHONPATH": f"{DOCS.parent}:{tmp_path}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
