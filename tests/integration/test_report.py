"""The report in a real browser: from the disk, on a phone's width, without a request or a complaint."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_report import build

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]
# Measures pages in frames of a phone's and a desk's width, then says what it found in its own text.
MEASURE = """<!doctype html><meta charset="utf-8"><body><script>
const found = [];
const pages = PAGES.flatMap(page => [360, 1280].map(width => [page, width]));
async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px";
  frame.style.height = "900px";
  frame.src = page;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const inside = frame.contentDocument;
  const style = frame.contentWindow.getComputedStyle(inside.body);
  found.push({page, width, scroll: inside.documentElement.scrollWidth, font: parseFloat(style.fontSize),
    broken: [...inside.images].filter(image => image.loading !== "lazy" && !image.naturalWidth).length,
    margin: style.marginTop});
}
(async () => {
  for (const [page, width] of pages) await measure(page, width);
  document.body.textContent = JSON.stringify(found);
})();
</script></body>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("run"), title="A run", summary="Small.", trajectories_per_set=4)


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = page.parent / "profile"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        "--virtual-time-budget=20000", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if ":CONSOLE" in line]


def test_pages_open_from_the_disk_without_a_request_or_a_complaint(report: Path, tmp_path: Path):
    hostile = report / "trajectories/rft-0-eval/one.html"
    shutil.copyfile(next((report / "trajectories/rft-0-eval").glob("*.html")), hostile)
    for page in (report / "index.html", report / "lineage/policies.html", hostile):
        net = tmp_path / f"{page.stem}.netlog.json"
        done = chromium(page, f"--log-net-log={net}", "--dump-dom")
        assert "</html>" in done.stdout and complaints(done.stderr) == []
        # Web addresses that a request was made for; chrome's own pages and files are none.
        urls = set(re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]+)"', net.read_text()))
        ours = {url for url in urls if not re.match(r"https?://[^/]*(google|gvt1|googleapis)\.com", url)}
        assert ours == set()


def test_pages_fit_a_phone_and_a_desk(report: Path):
    # A test's name has no place to break.
    index = (report / "index.html").read_text()
    assert "a named test does not pass" in index
    (report / "index.html").write_text(index.replace("a named test does not pass", f"tests/{'x' * 300}"))
    names = [
        "index.html",
        "lineage/policies.html",
        *(str(path.relative_to(report)) for path in sorted(report.glob("trajectories/*/*.html"))[:3]),
    ]
    measuring = report / "measure.html"
    measuring.write_text(MEASURE.replace("PAGES", json.dumps(names)))
    done = chromium(measuring, "--allow-file-access-from-files", "--dump-dom")
    text = re.search(r"<body>(\[.*\])</body>", done.stdout)
    assert text, done.stdout + done.stderr
    found = json.loads(text[1].replace("&amp;", "&"))
    assert len(found) == 2 * len(names)
    for measured in found:
        assert measured["scroll"] <= measured["width"], measured
        assert measured["font"] >= 14 and measured["broken"] == 0, measured
        assert measured["margin"] == "0px", "the style sheet did not load"
