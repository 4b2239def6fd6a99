"""Forms of references, presets, and the checks that need no model."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.cli import options
from diart_mp.errors import ModelError
from diart_mp.models.reference import PRESETS, Form, check, not_faster, parse_reference, preset


@pytest.mark.parametrize(
    ("text", "form", "name", "revision"),
    [
        ("builtin", Form.BUILTIN, "builtin", None),
        ("pyannote/segmentation", Form.HUB, "pyannote/segmentation", None),
        ("pyannote/segmentation@Interspeech2021", Form.HUB, "pyannote/segmentation", "Interspeech2021"),
        ("pyannote/segmentation-3.0@refs/pr/1", Form.HUB, "pyannote/segmentation-3.0", "refs/pr/1"),
        ("models/mine.ckpt", Form.CHECKPOINT, "models/mine.ckpt", None),
        ("/data/pytorch_model.bin", Form.CHECKPOINT, "/data/pytorch_model.bin", None),
        ("../folder", Form.CHECKPOINT, "../folder", None),
        ("wespeaker.onnx", Form.ONNX, "wespeaker.onnx", None),
        ("my.models:Net", Form.CLASS, "my.models:Net", None),
    ],
)
def test_forms(text: str, form: Form, name: str, revision: str | None) -> None:
    parsed = parse_reference(f" {text} ")
    assert (parsed.form, parsed.name, parsed.revision) == (form, name, revision)
    assert str(parsed) == text


@pytest.mark.parametrize("text", ["", "segmentation", "a b/c", "a/b/c", "module:", ":Class", "pyannote/x@", "a/b@c@d"])
def test_what_has_no_form_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="names no model"):
        parse_reference(text)


@given(st.text())
def test_any_text_parses_or_is_refused_in_one_line(text: str) -> None:
    message, parsed = "", None
    try:
        parsed = parse_reference(text)
    except ModelError as error:
        message = str(error)
    assert (parsed is None) == (len(message.splitlines()) == 1)


def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pyannote" / "segmentation"
    folder.mkdir(parents=True)
    (folder / "pytorch_model.bin").touch()
    parsed = check("pyannote/segmentation")
    assert parsed.form is Form.CHECKPOINT
    assert parsed.path == Path("pyannote/segmentation/pytorch_model.bin")


def test_check_names_the_missing_file(tmp_path: Path) -> None:
    for name in ("gone.ckpt", "gone.onnx"):
        with pytest.raises(ModelError, match=f"no model file {tmp_path / name}"):
            check(str(tmp_path / name))


def test_check_leaves_the_hub_alone() -> None:
    assert check("nobody/has-this-model").form is Form.HUB


def test_a_misspelt_name_is_met_with_the_nearest_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'community'"):
        preset("comunity")
    with pytest.raises(ModelError, match="did you mean 'builtin'"):
        check("buildin")


def test_presets_name_models_and_their_thresholds() -> None:
    chosen = preset("builtin")
    assert (chosen.tau_active, chosen.rho_update, chosen.delta_new) == (0.5, 0.3, 0.35)
    chosen = preset("pyannote")
    assert (chosen.tau_active, chosen.rho_update, chosen.delta_new) == (0.5, 0.3, 1.0)
    for pair in PRESETS.values():
        assert check(pair.segmentation).form in (Form.BUILTIN, Form.HUB)
        assert check(pair.embedding).form in (Form.BUILTIN, Form.HUB)


def test_references_and_contracts_need_no_torch() -> None:
    code = (
        "import sys, diart_mp.models.reference as r, diart_mp.models.base, diart_mp.models.builtin as b, "
        "diart_mp.models.load\n"
        "r.check('builtin'); b.cache_folder()\n"
        "print(sorted({'torch', 'safetensors', 'huggingface_hub', 'pyannote'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_fast_precision_leaves_as_it_is_is_said() -> None:
    assert not_faster(["builtin", "builtin"], "cpu") is None
    assert not_faster(["builtin", "builtin"], "auto") is None
    assert not_faster(["a.onnx", "builtin"], "cpu") == (
        "--precision fast changes nothing for a.onnx: it is for the built-in models"
    )
    both = not_faster(["a.onnx", "b:C"], "cpu")
    assert both is not None
    assert "a.onnx and b:C" in both
    assert "on the device cuda:1" in (not_faster(["builtin"], "cuda:1") or "")


@pytest.mark.parametrize(("precision", "lines"), [("fast", 1), ("exact", 0)])
def test_the_command_line_says_it(capsys: pytest.CaptureFixture[str], precision: str, lines: int) -> None:
    values = {"models": "community", "segmentation": None, "embedding": "builtin", "device": "cpu"}
    options.models({**values, "precision": precision})
    said = capsys.readouterr()
    assert (said.out, said.err.count("changes nothing for pyannote/segmentation-3.0:"), said.err.count("\n")) == (
        "",
        lines,
        lines,
    )
