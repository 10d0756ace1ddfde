"""The report as a real browser shows it: headless Chromium, driven by its command line alone."""

import json
import re
import shutil
import subprocess

import pytest
from full_payload import full_payload, full_report

from plum.report.page import render_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 1200)
# Frames, since a window of headless Chromium can't be as narrow as a phone.
HARNESS = """<!DOCTYPE html><html><body>{frames}<script>
onload = () => {{
  const facts = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument.documentElement, seen = frame.contentWindow;
    return {{
      view: seen.innerWidth, height: page.scrollHeight,
      unfolded: [page.querySelectorAll("details").forEach(part => part.open = true), page.scrollHeight][1],
      width: page.scrollWidth,
      requests: seen.performance.getEntriesByType("resource").length,
      small: [...page.querySelectorAll("p, td, th, li, dd, figcaption")].filter(
        part => part.textContent && parseFloat(seen.getComputedStyle(part).fontSize) < 11).length,
      outside: [...page.querySelectorAll("p, h1, h2, h3, h4, svg, dd, li, summary")].filter(part => {{
        const box = part.getBoundingClientRect(), held = part.closest(".scroll, .lists, pre");
        return !held && box.width && (box.left < -0.5 || box.right > seen.innerWidth + 0.5);
      }}).length,
    }};
  }});
  const told = document.createElement("output");
  told.textContent = JSON.stringify(facts);
  document.body.append(told);
}};
</script></body></html>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(full_report()[0], encoding="utf-8")
    return path


def chromium(path, profile, *flags):
    """Run Chromium once on a page, without any traffic of its own."""
    quiet = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    )
    command = [BROWSER, *quiet, f"--user-data-dir={profile}", *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def browse(tmp_path):
    return lambda path, *flags: chromium(path, tmp_path / "profile", *flags)


def console(done):
    """What the page wrote to the console, errors of the browser about it included."""
    return re.findall(r":CONSOLE[:(].*", done.stderr)


@pytest.fixture(scope="module")
def facts(report, tmp_path_factory):
    """What the page measures at each width."""
    frames = "".join(f'<iframe src="report.html" style="width:{w}px;height:800px;border:0"></iframe>' for w in WIDTHS)
    harness = report.parent / "harness.html"
    harness.write_text(HARNESS.format(frames=frames), encoding="utf-8")
    reading = ("--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom")
    done = chromium(harness, tmp_path_factory.mktemp("profile"), *reading)
    return dict(zip(WIDTHS, json.loads(re.search(r"<output>(.*)</output>", done.stdout)[1]), strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_console_stays_empty(report, browse, width, tmp_path):
    done = browse(report, f"--window-size={width},900", f"--screenshot={tmp_path / 'page.png'}")
    assert console(done) == []
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_an_error_would_be_seen(report, browse, tmp_path):
    """The check above sees script errors and what the page's own policy forbids."""
    broken = tmp_path / "broken.html"
    html = report.read_text(encoding="utf-8")
    broken.write_text(html.replace("</main>", '<img src="https://example.invalid/a.png"></main>'), encoding="utf-8")
    assert "Content Security Policy" in " ".join(console(browse(broken, f"--screenshot={tmp_path / 'a.png'}")))
    broken.write_text("<script>throw new Error('broken')</script>", encoding="utf-8")
    assert "broken" in " ".join(console(browse(broken, f"--screenshot={tmp_path / 'b.png'}")))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_nothing_is_fetched(facts, width):
    assert facts[width]["view"] == width
    assert facts[width]["width"] <= width
    assert facts[width]["outside"] == 0
    assert facts[width]["requests"] == 0
    assert facts[width]["small"] == 0  # no text under 11 pixels but intervals and pictures
    assert facts[width]["height"] < 8 * 900 < facts[width]["unfolded"]  # at first sight, and with all sections open


def test_it_prints_on_several_pages_with_the_configuration(report, browse, tmp_path):
    pages = []
    for name, html in (
        ("whole", report.read_text(encoding="utf-8")),
        ("without", render_report(full_payload() | {"config": ""})[0]),
    ):
        page, pdf = tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"
        page.write_text(html, encoding="utf-8")
        browse(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
        content = pdf.read_bytes()
        assert content.startswith(b"%PDF-")
        pages.append(len(re.findall(rb"/Type\s*/Page\b", content)))
    assert pages[0] >= 10
    assert pages[0] > pages[1]  # what is folded away on a screen is on paper
