"""The tool that takes pictures of reports for the documentation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parents[1] / "docs/scripts/screenshot.py"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><style>
body { background: #ff0000 } @media (prefers-color-scheme: dark) { body { background: #0000ff } }</style>"""


def shoot(*arguments: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=path and {"PATH": path})


def test_without_a_report_or_a_browser_it_says_what_to_do(tmp_path: Path) -> None:
    missing = shoot(tmp_path, tmp_path / "out.png")
    assert (missing.returncode, "plum eval" in missing.stderr) == (1, True)
    (tmp_path / "page.html").write_text(PAGE)
    alone = shoot(tmp_path / "page.html", tmp_path / "out.png", path=str(tmp_path))
    assert (alone.returncode, "install Chromium" in alone.stderr) == (1, True)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize(("flags", "colour"), [([], (255, 0, 0)), (["--dark"], (0, 0, 255))])
def test_it_takes_a_run_at_any_width_in_either_scheme(
    tmp_path: Path, flags: list[str], colour: tuple[int, ...]
) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/report.html").write_text(PAGE)
    done = shoot(tmp_path, tmp_path / "out.png", "--width", "400", "--height", "300", *flags)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (400, 300)
        assert image.convert("RGB").getpixel((200, 150)) == colour
