"""Released attempts through the rules: tables from them alone, without images, model or GPU."""

import csv
import hashlib
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Checkout

TABLE = "results/mini/tables/iterations.csv"
OPTIONS = ("--configfile", "config/restored.yaml")


@pytest.fixture
def released(checkout: Checkout):
    """Two attempts tables, one behind a URL, one on this machine; yields the config's block of them."""
    folder = checkout.path / "released"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    block = {}
    for number, source in enumerate((f"http://127.0.0.1:{server.server_port}/0.csv", (folder / "1.csv").as_uri())):
        rows = "".join(f"i{n},{run},{'resolved' if n <= number else 'unresolved'},{int(n <= number)}\n"
                       for n in range(4) for run in range(2))  # fmt: skip
        path = folder / f"{number}.csv"
        path.write_text(f"instance_id,run,outcome,resolved\n{rows}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        block[f"results/mini/attempts/rft-{number}-eval.csv"] = {"source": source, "sha256": digest}
    yield block
    server.shutdown()
    server.server_close()


def configure(checkout: Path, block: dict[str, dict[str, str]]) -> None:
    values = yaml.safe_load((ROOT / "tests/data/mini.yaml").read_text()) | {"restore": block}
    (checkout / "config/restored.yaml").write_text(yaml.safe_dump(values))


def test_a_table_is_made_of_released_attempts_and_never_of_wrong_ones(checkout: Checkout, released):
    first = next(iter(released))
    configure(checkout.path, released | {first: released[first] | {"sha256": "0" * 64}})
    refused = checkout.snakemake(TABLE, *OPTIONS, check=False)
    assert refused.returncode != 0 and not (checkout.path / TABLE).exists() and not (checkout.path / first).exists()
    assert "it is not used" in (checkout.path / f"logs/restore/{first}.log").read_text()

    configure(checkout.path, released)
    done = checkout.snakemake(TABLE, *OPTIONS)
    assert (checkout.path / TABLE).is_file() and "rollouts" not in done.stdout + done.stderr
    lines = (checkout.path / TABLE).read_text().splitlines()
    assert [line.split(",")[2:5] for line in lines[1:]] == [["4", "8", "2"], ["4", "8", "4"]]
    made = {path.relative_to(checkout.path).parts[:3] for path in (checkout.path / "results").rglob("*.*")}
    assert {parts[2] for parts in made if parts[1] == "mini" and len(parts) > 2} == {"attempts", "tables"}


def test_a_table_of_greedy_runs_needs_the_job_of_run_0_alone(checkout: Checkout):
    """SET.first of a set whose other runs do not exist, and a name that the whole set needs all jobs for."""
    example = ROOT / "tests/data/example/results/example"
    values = yaml.safe_load((ROOT / "tests/data/mini.yaml").read_text())
    values["rollouts"] = {
        "some": {"policy": "tiny", "dataset": "eval", "runs": 4, "runs_per_job": 2, "settings": {
            "scaffold": {"kind": "single_edit"}, "first_temperature": 0, "serving": {"max_model_len": 512},
        }},
    }  # fmt: skip
    values["shard_size"] = 10
    values["tables"] = {"greedy": {"kind": "iterations", "sets": ["some.first"]}}
    values["figures"] = {}
    values["restore"] = {}
    released = checkout.path / "released"
    for path, source in {
        "instances/eval.jsonl": "instances/eval.jsonl",
        "images/eval/shard-0.gates.jsonl": "images/eval/shard-0.gates.jsonl",
        "rollouts/some/runs-0-0/shard-0.jsonl": "rollouts/rft-0-eval/runs-0-3/shard-0.jsonl",
        "grades/some/runs-0-0/shard-0.jsonl": "grades/rft-0-eval/runs-0-3/shard-0.jsonl",
    }.items():
        rows = (example / source).read_text().splitlines(keepends=True)
        kept = "".join(row for row in rows if json.loads(row).get("run", 0) == 0)
        (released / path).parent.mkdir(parents=True)
        (released / path).write_text(kept)
        digest = hashlib.sha256(kept.encode()).hexdigest()
        values["restore"][f"results/mini/{path}"] = {"source": str(released / path), "sha256": digest}
    (checkout.path / "config/restored.yaml").write_text(yaml.safe_dump(values))
    checkout.snakemake("results/mini/tables/greedy.csv", *OPTIONS)
    rows = list(csv.DictReader((checkout.path / "results/mini/attempts/some.first.csv").read_text().splitlines()))
    assert len(rows) == 6 and {row["run"] for row in rows} == {"0"} and "score" not in rows[0]
    [row] = csv.DictReader((checkout.path / "results/mini/tables/greedy.csv").read_text().splitlines())
    assert (row["set"], row["attempts"]) == ("some.first", "6")
    whole = checkout.snakemake("results/mini/attempts/some.csv", *OPTIONS, "--dry-run", "--quiet", "rules")
    assert {name: int(n) for name, n in re.findall(r"(?m)^ ?(rollouts|grade) +(\d+) *$", whole.stdout + whole.stderr)} == {
        "rollouts": 2, "grade": 2,
    }  # fmt: skip
