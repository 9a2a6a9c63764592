import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_carries_the_model_and_the_label_sets_and_no_recipe(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    labelsets = {f"xclip_cli/labelsets/{path.name}" for path in (ROOT / "labelsets").glob("*.yaml")}
    assert len(labelsets) >= 12 and labelsets <= names
    assert {
        "xclip_cli/weights/mini.safetensors",
        "xclip_cli/weights/MODEL_CARD.md",
        "xclip_cli/weights/NOTICE.md",
        *(f"xclip_cli/outputs/html/{name}" for name in ("template.html", "style.css", "script.js")),
    } <= names
    assert not [name for name in names if name.endswith(".png")]
    assert not [name for name in names if "recipe" in name or name.startswith(("tests", "labelsets", "weights"))]
    assert "xclip_cli/py.typed" in names
    assert wheel.stat().st_size < 95e6
