"""The report in a browser: Debian's headless Chromium draws it, runs its script and prints it.

Pictures are left in build/report-screenshots for people to look at.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from sample_analysis import sample_analysis
from servers import REPOSITORY
from softloss.quality._outputs import plain
from softloss.quality._report import render

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
PICTURES = REPOSITORY / "build" / "report-screenshots"

Browser = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(plain(sample_analysis())), encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def browser(tmp_path: pathlib.Path) -> Browser:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={tmp_path / 'profile'}",
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        # What the page's own console says: errors of its script, refusals of its policy.
        assert not re.findall(r"^.*CONSOLE.*$", done.stderr, re.M), done.stderr
        return done

    return run


def picture(browser: Browser, report: pathlib.Path, name: str, size: str, theme: str) -> np.ndarray:
    path = PICTURES / f"{name}.png"
    path.unlink(missing_ok=True)
    browser(f"--screenshot={path}", f"--window-size={size}", f"{report.as_uri()}#theme={theme}")
    return np.asarray(Image.open(path).convert("RGB"))


def test_light_and_dark(browser: Browser, report: pathlib.Path) -> None:
    light = picture(browser, report, "light", "1400,7200", "light")
    dark = picture(browser, report, "dark", "1400,7200", "dark")
    assert light.shape == dark.shape == (7200, 1400, 3)
    assert np.median(light) > 240 and np.median(dark) < 40
    # The orange of warnings is in both.
    for image in (light, dark):
        red, green, blue = (image[..., c].astype(int) for c in range(3))
        assert ((red > 140) & (red > green + 40) & (green > blue + 20)).sum() > 500


def test_a_narrow_screen_scrolls_down_alone(browser: Browser, report: pathlib.Path) -> None:
    # Headless windows have a least width; a frame has none.
    frame = report.with_name("narrow.html")
    frame.write_text(
        '<body style="margin:0"><iframe id="f" src="report.html" width="390" height="2400" '
        'style="border:0"></iframe>'
    )
    path = PICTURES / "narrow.png"
    path.unlink(missing_ok=True)
    browser(f"--screenshot={path}", "--window-size=500,2400", frame.as_uri())
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape == (2400, 500, 3)
    assert (image[:, 395:] == 255).all()


def test_print(browser: Browser, report: pathlib.Path) -> None:
    path = PICTURES / "print.pdf"
    path.unlink(missing_ok=True)
    browser(f"--print-to-pdf={path}", "--no-pdf-header-footer", f"{report.as_uri()}#theme=dark")
    data = path.read_bytes()
    assert data.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 5 <= pages <= 40


def test_the_script_has_run(browser: Browser, report: pathlib.Path) -> None:
    dom = browser("--dump-dom", f"{report.as_uri()}#theme=dark").stdout
    assert 'data-theme="dark"' in dom
    assert "Theme: dark" in dom
    assert dom.count("Sort by ") > 20
    # Numbers as drawn, beside the analysis.
    analysis = sample_analysis()
    for person in analysis["annotator"]:
        assert f"{100 * person['quality']['value']:.1f} %" in dom


DRIVE = """
<iframe id="page" src="report.html" width="1200" height="800"></iframe>
<pre id="log"></pre>
<script>
addEventListener("load", () => {
  const log = [];
  const page = document.getElementById("page").contentDocument;
  const board = page.getElementById("leaderboard");
  const names = () => [...board.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const votes = () => [...board.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.v));
  const button = board.tHead.rows[0].cells[1].querySelector("button");
  button.click();
  log.push("down " + votes().every((v, i, all) => i === 0 || all[i - 1] >= v));
  log.push("sorted " + board.tHead.rows[0].cells[1].getAttribute("aria-sort"));
  button.click();
  log.push("up " + votes().every((v, i, all) => i === 0 || all[i - 1] <= v));
  const filter = page.querySelector("input[data-table=leaderboard]");
  filter.value = "Annotator-005";
  filter.dispatchEvent(new Event("input"));
  log.push("left " + [...board.tBodies[0].rows].filter((row) => !row.hidden).length);
  page.querySelector("a[href='#def-quality']").click();
  const dialog = page.getElementById("definition");
  log.push("open " + dialog.open + " " + dialog.querySelector("h3").textContent);
  dialog.querySelector("form button").click();
  log.push("closed " + !dialog.open);
  document.getElementById("log").textContent = log.join("; ");
});
</script>
"""


def test_tables_sort_and_filter_and_definitions_open(
    browser: Browser, report: pathlib.Path
) -> None:
    driver = report.with_name("drive.html")
    driver.write_text(DRIVE)
    dom = browser("--allow-file-access-from-files", "--dump-dom", driver.as_uri()).stdout
    assert "down true; sorted descending; up true; left 1; open true Quality; closed true" in dom, (
        dom[-600:]
    )
