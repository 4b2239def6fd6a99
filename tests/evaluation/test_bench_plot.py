"""The picture of a measurement."""

from pathlib import Path

import pytest

from diart_mp.errors import UsageError
from diart_mp.evaluation.bench_plot import check_plot, plot
from diart_mp.evaluation.bench_report import figures
from tests.evaluation.measurements import two_chunks

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_picture_shows_the_stages_and_the_percentiles(tmp_path: Path) -> None:
    import matplotlib as mpl

    measurement = two_chunks()
    path = tmp_path / "bench.svg"
    check_plot(path)
    with mpl.rc_context({"svg.fonttype": "none"}):
        plot(measurement, figures(measurement), path)
    text = path.read_text()
    for shown in ("capture", "first", "second", "transport", "wait", "compute", "Latency of 2 chunks", "p50: 35.8 ms"):
        assert shown in text


def test_png(tmp_path: Path) -> None:
    measurement = two_chunks()
    path = tmp_path / "bench.png"
    plot(measurement, figures(measurement), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"bench\.doc: \.doc is no format"):
        check_plot(tmp_path / "bench.doc")
    with pytest.raises(UsageError, match=r"bench\.doc"):
        plot(measurement, figures(measurement), tmp_path / "bench.doc")
