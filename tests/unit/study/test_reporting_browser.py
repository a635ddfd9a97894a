from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from study.reporting.assets import DARK, LIGHT
from study.reporting.files import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")

SCHEMES = {"light": (1, LIGHT), "dark": (0, DARK)}


def drawn(path, scheme, folder):
    """The page's elements after its scripts have run, without the scripts, and what the browser complained of."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            f"--user-data-dir={folder}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL), complaints


def rgb(color):
    return "rgb({}, {}, {})".format(*(int(color[start : start + 2], 16) for start in (1, 3, 5)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_browser_draws_every_figure_and_has_nothing_to_complain_of(records, tmp_path, scheme):
    hostile = "</script><script>document.title = 'taken over'</script><img src=x onerror=alert(1)>"
    points = [records.point(1.0, 0.5, 0.6), records.point(1.0, 1.0, 0.7), records.point(loss=hostile, alpha=None)]
    data = records.data(records.study(points, name=hostile, class_names=(hostile, "MEL")))
    path = write_report([data], tmp_path / "report.html")
    number, palette = SCHEMES[scheme]

    page, complaints = drawn(path, number, tmp_path / "profile")

    assert complaints == []
    assert page.count('class="plot js-plotly-plot"') == 8
    assert page.count('class="scatterlayer mlayer"') == 8
    assert page.count('class="barlayer mlayer"') == 1
    assert rgb(palette["test"]) in page
    assert "var(--" not in re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    assert "<title>taken over" not in page
    assert "<img" not in page
