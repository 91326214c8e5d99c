import html.parser
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.figures import main as draw
from swedag.metrics.reading import read_attempts
from swedag.report import cost, diagram, outcomes, results, trajectories
from swedag.report.page import ReportSettings, main, style_files, visible
from swedag.tables import main as tabulate
from tests.unit.test_attempts import EXAMPLE, table
from tests.unit.test_provenance import records

SETS = ["rft-0-eval", "rft-1-eval", "rft-2-eval"]


def build(root: Path, **settings) -> Path:
    """The report of the example, with tables, figures, benchmarks and Snakemake's records, below `root`."""
    run = root / "results/example"
    shutil.copytree(EXAMPLE, root / "results", dirs_exist_ok=True)
    attempts = [table(run / f"attempts/{name}.csv", name, scored=name == SETS[-1]) for name in SETS]
    policies = json.dumps({"kind": "iterations", "sets": SETS, "labels": ["base", "one", "two"], "caption": "Policies"})
    scaling = json.dumps({"kind": "scaling", "sets": SETS[-1:], "k": "1-4"})
    for name, chosen in (("policies", policies), ("scaling", scaling)):
        tabulate(chosen, *(run / f"tables/{name}{suffix}" for suffix in (".csv", ".md", ".tex")), attempts=attempts)
    draw(policies, run / "figures/policies.svg", run / "figures/policies.png", attempts=attempts)
    for step, seconds in (("example/rollouts/rft-0-eval/x", 61.0), ("example/grades/y", 3.5), ("images/envs/z", 7200)):
        path = root / f"benchmarks/{step}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"s": seconds, "cpu_time": None, "max_rss": "NA"}) + "\n")
    (root / "demo.yaml").write_text("run: example  # </pre><script>config()</script>\n")
    records(root)
    main(
        run="example",
        settings=ReportSettings(**settings).model_dump_json(),
        output=run / "report",
        config=[root / "demo.yaml"],
        instances=[run / "instances/eval.jsonl"],
        gates=[root / "results/example/images/eval/shard-0.gates.jsonl"],
        rollouts=sorted(run.glob("rollouts/*/*/*.jsonl")),
        grades=sorted(run.glob("grades/*/*/*.jsonl")),
        scores=sorted(run.glob("scores/*/*/*/*.jsonl")),
        attempts=attempts,
        cards=sorted(run.glob("sft/*.card.json")),
        checkpoints=sorted(run.glob("checkpoints/*")),
        tables=[run / "tables/policies.csv", run / "tables/scaling.csv"],
        figures=[run / "figures/policies.svg"],
        benchmarks=[root / "benchmarks"],
        root=root,
    )
    return run / "report"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("run"), title="A & B", summary="Small.", trajectories_per_set=24)


class Page(html.parser.HTMLParser):
    """Tags, addresses and text of a page, and whether its tags close."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "rect"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.addresses += [value for name, value in attributes if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def pages(report: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(report.rglob("*.html"))}


def test_every_page_is_whole_and_every_address_is_in_the_folder(report):
    found = pages(report)
    assert len(found) == 1 + 3 * 24 + 1  # Snakemake has a record of one of the two tables
    for path, page in found.items():
        assert page.open == [], path
        for address in page.addresses:
            target = address.split("#")[0]
            assert address.startswith(("#", "data:")) or (path.parent / target).resolve().is_file(), (path, address)


def test_nothing_is_fetched_and_nothing_runs(report):
    for path, page in pages(report).items():
        assert "script" not in page.tags and "iframe" not in page.tags, path
        assert not {name for name in page.attributes if name.startswith("on")}, path
        assert page.tags.count("img") == (1 if path.name == "index.html" else 0), path
    assert "://" not in (report / "style.css").read_text() and "@import" not in (report / "style.css").read_text()


def test_hostile_text_is_text(report):
    text = (report / "trajectories/rft-2-eval/tinydb-4.8.0.eval-001.run-0.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "<img src=x" not in text and "\x1b" not in text
    assert (
        "&lt;script&gt;alert(document.cookie)&lt;/script&gt; ⟨U+001B⟩[31m &amp; &#34;quoted&#34; &lt;/pre&gt;" in text
    )
    assert "&lt;script&gt;config()" in (report / "index.html").read_text(encoding="utf-8")


def test_what_a_page_cannot_hold_is_named():
    assert visible("a\r\nb\tc é 漢") == "a\nb\tc é 漢"
    assert visible("\u202egnp.exe \ud800 \x00 \ufeff") == "⟨U+202E⟩gnp.exe ⟨U+D800⟩ ⟨U+0000⟩ ⟨U+FEFF⟩"


def test_the_overview_says_what_happened_and_how_sure_it_is(report):
    text = re.sub(r"\s+", " ", Page(report / "index.html").text)
    assert "A & B" in text and "From base to two" in text
    assert re.search(r"points, 95 % interval [+-][\d.]+ to [+-][\d.]+, which (ex|in)cludes zero", text)
    assert "5 of 6 images pass their gate" in text and "72 attempts in 3 rollout sets" in text.replace(
        "72attempts", "72 attempts"
    )
    assert "wcwidth" in text or "sqlparse" in text
    assert "2 h 00 min" in text and "1 min 01 s" in text


def test_every_row_of_a_table_leads_to_what_it_was_made_of(report):
    index = (report / "index.html").read_text()
    table = re.search(r'(?s)id="table-policies".*?</table>', index)[0]
    rows = re.findall(r'<tr><td><a href="lineage/policies.html#(made-\d+)"[^>]*>(\w+)</a>', table)
    assert [label for _, label in rows] == ["base", "one", "two"]
    text = (report / "lineage/policies.html").read_text()
    trees = {name: part for name, part in re.findall(r'(?s)<section id="(made-\d+)">(.*?)</section>', text)}
    # The records know rft-0-eval and another set, and nothing of the sets of the other two rows, which therefore have all.
    first = trees[rows[0][0]]
    for part in (
        "attempts/rft-0-eval.csv",
        "results/models/tiny",
        "base_model",
        "&#39;seed&#39;: 10",
        "row 1 · 10 files",
    ):
        assert part in re.sub(r"\s+", " ", first), part
    assert "attempts/other.csv" not in first and rows[1][0] == rows[2][0] != rows[0][0]
    assert "attempts/other.csv" in trees[rows[1][0]] and "rows 2, 3 · 11 files" in trees[rows[1][0]]


def test_failures_are_told_apart(report):
    text = re.sub(r"\s+", " ", Page(report / "index.html").text)
    assert "4 environment failure: the image's gate failed: no verdict on the model" in text
    assert "4 \u00d7 the gold patch is unresolved: a named test does not pass" in text
    assert "1 infrastructure failure: a server or sandbox was lost: no verdict on the model" in text


def test_a_trajectory_shows_everything(report):
    found = Page(report / "trajectories/rft-2-eval/semver-3.0.2.eval-000.run-0.html").text
    for part in (
        "Version.bump_minor",
        "policy rft-2",
        "score of judge",
        "+        return cls(",
        "begin to pass",
        "keep passing",
    ):
        assert part in found, part
    assert found.index("begin to pass") < found.index("keep passing")
    lost = Page(report / "trajectories/rft-1-eval/sqlparse-0.5.3.eval-002.run-3.html").text
    assert "the server closed the connection" in lost and "No tests ran" in lost and "No reply came" in lost


def test_pages_are_the_same_bytes_again(tmp_path, report):
    again = build(tmp_path, title="A & B", summary="Small.", trajectories_per_set=24)
    names = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        if name.name != "index.html":  # paths of the temporary folder stand in its lineage
            assert (report / name).read_bytes() == (again / name).read_bytes(), name


def test_a_run_without_anything_still_has_a_report(tmp_path):
    main(run="bare", settings="{}", output=tmp_path / "report", root=tmp_path)
    assert Page(tmp_path / "report/index.html").open == []


def test_the_sample_has_every_outcome_and_many_instances():
    outcomes_of = {(f"i{n}", run): "unresolved" for n in range(50) for run in range(4)} | {
        ("i7", 2): "resolved",
        ("i9", 0): "timeout",
    }
    found = trajectories.sample(outcomes_of, 10)
    assert len(found) == 10 and {outcomes_of[key] for key in found} == {"resolved", "unresolved", "timeout"}
    assert len({name for name, _ in found}) == 10
    assert trajectories.sample(outcomes_of, 10) == found and trajectories.sample(outcomes_of, 0) == []
    assert len(trajectories.sample({("a", 0): "resolved"}, 5)) == 1


def test_names_from_outside_stay_inside():
    assert trajectories.safe("../../etc/passwd") == "_.._etc_passwd"
    assert trajectories.safe("..") == "_" and trajectories.safe("a b/c") == "a_b_c"


def test_long_texts_lose_their_middle():
    assert trajectories.shortened("x" * 10, 10) == "x" * 10
    assert (
        trajectories.shortened("a" * 500 + "b" * 500, 100) == "a" * 50 + "\n[… 900 characters left out …]\n" + "b" * 50
    )


def test_time_by_step_from_jsonl_and_tsv(tmp_path):
    (tmp_path / "demo/grades/s").mkdir(parents=True)
    (tmp_path / "other/grades").mkdir(parents=True)
    (tmp_path / "demo/grades/s/a.jsonl").write_text(
        '{"s": 2.5, "cpu_time": 4, "max_rss": 10}\n{"s": 1, "cpu_time": "NA", "max_rss": 30}\n'
    )
    (tmp_path / "demo/grades/s/b.tsv").write_text("s\th:m:s\tmax_rss\tcpu_time\n1.5\t0:00:01\t-\t0.5\n")
    (tmp_path / "other/grades/c.jsonl").write_text('{"s": 99}\n')
    (step,) = cost.steps([tmp_path], "demo")
    assert (step.name, step.jobs, step.wall, step.cpu, step.gpu, step.peak) == ("grading", 3, 5.0, 4.5, 0, 30)
    assert [cost.human(s) for s in (0.25, 59.96, 119.6, 2422, 7260)] == [
        "0.2 s", "60.0 s", "2 min 00 s", "40 min", "2 h 01 min",
    ]  # fmt: skip


def test_gpu_time_bytes_and_tokens(tmp_path):
    benchmark = tmp_path / "benchmarks/demo/rollouts/s/runs-0-0/shard-0.jsonl"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text('{"s": 30, "cpu_time": 4, "resources": {"gpu": 4, "mem_mb": 8}, "threads": 2}\n')
    model = tmp_path / "results/models/m"
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"x" * 700)
    (model / "config.json").write_bytes(b"x" * 50)
    outputs = ["results/models/m", "results/other/sft/x.jsonl", "results/demo/report", "elsewhere"]
    rollouts, models = cost.steps([tmp_path / "benchmarks"], "demo", outputs, tmp_path)
    assert (rollouts.jobs, rollouts.gpu, models.jobs, models.bytes) == (1, 120, 0, 750)
    assert [cost.human_bytes(size) for size in (10, 2_340_000, 65e9)] == ["0.0 kB", "2.3 MB", "65.0 GB"]
    path = tmp_path / "a.csv"
    path.write_text(
        "instance_id,run,resolved,turns,prompt_tokens,completion_tokens\na,0,1,3,100,20\na,1,0,2,50,5\nb,0,,,,\n"
    )
    assert cost.tokens("a", read_attempts(path)) == cost.Tokens("a", 3, 1, 5, 150, 25)


def test_what_calls_cost_stands_beside_their_tokens(tmp_path):
    build(tmp_path)
    assert "price, $" not in (tmp_path / "results/example/report/index.html").read_text()
    shards = sorted((tmp_path / "results/example/rollouts").glob("*/*/*.jsonl"))
    rows = [json.loads(line) for line in shards[0].read_text().splitlines()]
    shards[0].write_text("".join(json.dumps(row | {"dollars": 0.25}) + "\n" for row in rows))
    said, dollars = trajectories.read_rollouts(shards, {})
    assert said == {} and dollars["rft-0-eval"] == 0.25 * len(rows) and dollars["rft-1-eval"] == 0
    (name,) = {path.parent.parent.name for path in shards[:1]}
    run = tmp_path / "results/example"
    attempts = [run / f"attempts/{name}.csv"]
    main(run="example", settings="{}", output=run / "priced", rollouts=shards[:1], attempts=attempts, root=tmp_path)
    assert f"{0.25 * len(rows):.2f}" in Page(run / "priced/index.html").text


def test_the_time_of_images_and_of_their_gates_and_the_bytes_of_the_images(tmp_path):
    shard = "demo/images/d/shard-0"
    for name, text in (
        (f"benchmarks/{shard}.images.jsonl", '{"s": 5}\n'),
        (f"benchmarks/{shard}.gates.jsonl", '{"s": 3}\n'),
        (f"results/{shard}.images.jsonl", '{"bytes": 70}\n{"bytes": 7}\n'),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = cost.steps([tmp_path / "benchmarks"], "demo", [f"results/{shard}.images.jsonl"], tmp_path)
    assert [(step.name, step.wall, step.bytes) for step in found] == [
        ("instance images", 5.0, 77), ("gates of the images", 3.0, 0),
    ]  # fmt: skip


def test_images_by_environment():
    rows = [
        {"instance_id": "a", "passed": True, "environment": "e", "bytes": 10, "inodes": 2},
        {"instance_id": "b", "passed": False, "environment": "e", "reason": "why"},
        {"instance_id": "c", "passed": True},
    ]
    first, second = outcomes.images(rows)
    assert (first.environment, first.instances, first.passed, first.bytes, first.failed) == (
        "e",
        2,
        1,
        10,
        [("b", "why")],
    )
    assert second.environment == "unknown"


def test_the_headline_is_of_policies_that_were_compared(tmp_path):
    path = tmp_path / "t.csv"
    rates = "resolve_rate,resolve_low,resolve_high"
    path.write_text(
        f"label,{rates},first_difference\nLite base,.1,.1,.1,\nLite tuned,.2,.1,.3,.1\n"
        "Verified base,.3,.2,.4,\nVerified tuned,.5,.4,.6,.2\n"
    )
    found = results.headline([path], "")
    assert (found.first["label"], found.last["label"]) == ("Verified base", "Verified tuned")
    assert [point["rate"] for point in found.points] == [30, 50]


def test_bad_inputs_are_named(tmp_path):
    (tmp_path / "row.json").write_text("[]")
    with pytest.raises(SwedagError, match=r"row\.json: not a ledger row"):
        outcomes.ledger([tmp_path / "row.json"])
    shard = tmp_path / "grades/set/runs-0-0/shard-0.jsonl"
    shard.parent.mkdir(parents=True)
    shard.write_text('{"instance_id": "a", "run": 0, "outcome": "resolved"}\n{oops\n')
    with pytest.raises(SwedagError, match=r"shard-0\.jsonl:2: not JSON"):
        trajectories.read_grades([shard])
    with pytest.raises(SwedagError, match="no table of policies is called 'x'"):
        results.headline([], "x")
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(SwedagError, match=r"t\.md: no such file"):
        results.read_table(tmp_path / "t.csv")


def test_the_picture_leaves_out_arrows_that_others_imply():
    run = "results/r"
    made_of = {
        f"{run}/instances/d.jsonl": ["results/images/envs/e.sif", "workflow/swedag/a.py"],
        f"{run}/rollouts/s/runs-0-0/shard-0.jsonl": [
            f"{run}/instances/d.jsonl",
            "results/images/envs/e.sif",
            "results/models/m",
        ],
        f"{run}/grades/s/runs-0-0/shard-0.jsonl": [f"{run}/rollouts/s/runs-0-0/shard-0.jsonl"],
        f"{run}/tables/t.csv": [f"{run}/grades/s/runs-0-0/shard-0.jsonl", f"{run}/instances/d.jsonl"],
        f"{run}/sft/unused.jsonl": [f"{run}/grades/s/runs-0-0/shard-0.jsonl"],
        "results/other/tables/t.csv": ["results/models/m"],
    }
    found = diagram.graph(made_of, "r")
    assert ("training set", "unused") not in found and ("rollouts", "s") in found
    reduced = diagram.reduced(found)
    assert reduced["rollouts", "s"] == {("dataset", "d"), ("model", "m")}
    assert reduced["results", "tables and figures"] == {("rollouts", "s")}
    boxes, width, height = diagram.layout(found)
    assert width > 0 and height > 0
    for layer in {box.layer for box in boxes}:
        row = sorted((box for box in boxes if box.layer == layer), key=lambda box: box.x)
        assert all(b.x - a.x >= (a.width + b.width) / 2 for a, b in itertools.pairwise(row))
    assert len(diagram.arrows(boxes)) == sum(map(len, reduced.values()))
    assert diagram.layout({}) == ([], 0, -diagram.DROP)


def test_style_files_are_inputs_of_the_rule():
    assert {path.name for path in style_files()} == {
        "index.html", "layout.html", "lineage.html", "style.css", "trajectory.html",
    }  # fmt: skip
    assert all(path.is_file() for path in style_files())
