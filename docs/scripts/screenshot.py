"""Take a picture of a run's report in headless Chromium, such as ``docs/images/report.png``.

python docs/scripts/screenshot.py runs/synthetic docs/images/report.png
python docs/scripts/screenshot.py runs/synthetic phone.png --width 400 --height 2800 --dark
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Quiet: no sandbox (containers), nothing fetched, nothing kept.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
NARROWEST = 500
"""Pixels of the narrowest window that headless Chromium opens; the page stands in a frame of its own width."""
SECONDS = 120


def main() -> None:
    """Take the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description="Take a picture of a run's report.")
    parser.add_argument("run", type=Path, help="folder of a finished run, or an HTML file")
    parser.add_argument("out", type=Path, help="the PNG file to write")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=900, help="of the window, in pixels")
    parser.add_argument("--dark", action="store_true", help="for a reader who prefers dark pages")
    given = parser.parse_args()
    page = given.run / "eval/report.html" if given.run.is_dir() else given.run
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not page.is_file():
        sys.exit(f"error: {page} is missing: give the folder of a run that `plum eval` has finished")
    if browser is None:
        sys.exit(f"error: no browser found: install Chromium, so that one of {', '.join(BROWSERS)} is on PATH")
    try:
        take(browser, page, given.out, given.width, given.height, given.dark)
    except (subprocess.SubprocessError, OSError) as error:
        sys.exit(f"error: {browser} took no picture of {page}: {error}")
    sys.stdout.write(f"{given.out}: {given.out.stat().st_size / 1024:,.0f} KiB\n")


def take(browser: str, page: Path, out: Path, width: int, height: int, dark: bool) -> None:
    """Write a PNG of the page's top.

    Args:
        browser: path of Chromium.
        page: the HTML file.
        out: the PNG file to write.
        width, height: of the window, in pixels.
        dark: whether the reader prefers dark pages.

    Raises:
        subprocess.SubprocessError: the browser failed or took too long.
        OSError: it wrote no picture, or the picture cannot be written to ``out``.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        frame, picture = Path(folder) / "frame.html", Path(folder) / "page.png"
        frame.write_text(
            '<!DOCTYPE html><meta name="color-scheme" content="light dark"><body style="margin:0">'
            f'<iframe src="{page.resolve().as_uri()}" style="width:{width}px;height:{height}px;border:0"></iframe>',
            encoding="utf-8",
        )
        command = [
            *(browser, *FLAGS, f"--user-data-dir={folder}/profile", f"--screenshot={picture}"),
            *(
                f"--window-size={max(width, NARROWEST)},{height}",
                f"--blink-settings=preferredColorScheme={int(not dark)}",
            ),
            frame.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.crop((0, 0, width, height)).convert("RGB").quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
