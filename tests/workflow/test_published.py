"""Published datasets through the rules: fetched from the Hub's cache, made, tabulated, and made again only when stale."""

import csv
import json
import re
from pathlib import Path

import pyarrow
import pytest
import yaml
from pyarrow import parquet

from tests.conftest import ROOT, Checkout, copy_sources

REVISION = "f70b1a29ab120eb0a0ee7a1deb029825e735b2b0"
DATA = ROOT / "tests/data/instances"
GYM = [json.loads(line) for line in (DATA / "swe_gym_moto.jsonl").read_text().splitlines()]
CONFIG = {
    "run": "rows",
    "datasets": {
        "gym": {
            "kind": "published",
            "source": {"kind": "hub", "repo": "SWE-Gym/SWE-Gym-Lite", "revision": REVISION},
            "ids": [row["instance_id"] for row in GYM],
        },
        "verified": {"kind": "published", "source": {"kind": "file", "path": "rows.jsonl"}},
    },
    "tables": {
        "table2": {
            "kind": "statistics",
            "datasets": ["gym", "verified"],
            "reference": {"file": "table2_statistics", "columns": {"gym": "swe_gym", "verified": "swe_bench_test"}},
        },
        "fig2": {
            "kind": "repositories",
            "datasets": ["gym"],
            "reference": {"file": "fig2_repositories", "columns": {"gym": "swe_gym"}},
        },
    },
}
TARGETS = ("results/rows/tables/table2.csv", "results/rows/tables/fig2.csv")
OPTIONS = ("--configfile", "config/rows.yaml")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = copy_sources(tmp_path)
    (tmp_path / "config/rows.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "rows.jsonl").write_bytes((DATA / "swebench_verified_5.jsonl").read_bytes())
    data = tmp_path / f"hub/datasets--SWE-Gym--SWE-Gym-Lite/snapshots/{REVISION}/data"
    data.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(GYM), data / "train-00000-of-00001.parquet")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return made


def planned(checkout: Checkout) -> dict[str, int]:
    done = checkout.snakemake(*TARGETS, *OPTIONS, "--dry-run")
    return {name: int(count) for name, count in re.findall(r"(?m)^ ?([a-z_]+) +(\d+) *$", done.stdout + done.stderr)}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_become_tables_and_only_what_is_stale_is_made_again(checkout):
    checkout.snakemake(*TARGETS, *OPTIONS)
    results = checkout.path / "results/rows"
    table = {row["metric"]: row for row in rows(results / "tables/table2.csv")}
    assert (table["instances"]["gym"], table["instances"]["verified"]) == ("3", "5")
    assert (table["instances"]["paper_gym"], table["instances"]["paper_verified"]) == ("2438.0", "2294.0")
    assert rows(results / "tables/fig2.csv")[0] == {"repo": "getmoto/moto", "gym": "3", "paper_gym": "343.0"}
    assert [row["kept"] for row in rows(results / "instances/gym.rows.csv")] == ["yes"] * 3
    assert planned(checkout) == {}

    specs = checkout.path / "config/specs"
    for name in ("dask__dask", "getmoto__moto"):
        (specs / f"{name}.yaml").write_text((specs / f"{name}.yaml").read_text().replace("pytest", "pytest -q"))
        again = planned(checkout)
        assert again.get("instances", 0) == {"dask__dask": 0, "getmoto__moto": 1}[name]
        assert "fetch_dataset" not in again


def test_a_broken_line_stops_the_plan_or_is_left_out_as_the_config_says(checkout):
    with (checkout.path / "rows.jsonl").open("a") as out:
        out.write('{"instance_id": "sympy__sympy-1", "repo": "sympy/sy\n')
    refused = checkout.snakemake(*TARGETS, *OPTIONS, check=False)
    assert refused.returncode != 0
    said = re.sub(r"\s+", " ", refused.stdout + refused.stderr)
    assert "rows.jsonl: 1 of 6 rows cannot be used: line 6: malformed: not JSON, perhaps cut off" in said
    skipping = CONFIG | {
        "datasets": CONFIG["datasets"] | {"verified": CONFIG["datasets"]["verified"] | {"on_malformed": "skip"}}
    }
    (checkout.path / "config/rows.yaml").write_text(yaml.safe_dump(skipping))
    checkout.snakemake(*TARGETS, *OPTIONS)
    report = rows(checkout.path / "results/rows/instances/verified.rows.csv")
    assert [row["reason"] for row in report] == [""] * 5 + ["malformed"]


def test_environments_of_specs_and_shared_parts_of_published_images_are_planned_from_the_rows(checkout):
    (checkout.path / "gym.jsonl").write_bytes((DATA / "swe_gym_moto.jsonl").read_bytes())
    built = {"kind": "published", "source": {"kind": "file", "path": "gym.jsonl"}, "images": {"source": "build"}}
    slim = CONFIG["datasets"]["verified"] | {"images": {"source": "registry", "slim": True}}
    config = {"run": "rows", "datasets": {"gym": built, "verified": slim}}
    (checkout.path / "config/rows.yaml").write_text(yaml.safe_dump(config))
    done = checkout.snakemake("images", *OPTIONS, "--dry-run")
    counts = re.findall(r"(?m)^ ?([a-z_ ]+?) +(\d+) *$", done.stdout + done.stderr)
    assert {name.replace(" ", "_"): int(count) for name, count in counts if name != "total"} == {
        "instances": 2, "mirror": 1, "os_image": 1, "spec_environment": 3, "layers": 1,
        "registry_images": 1, "slim_images": 5, "gates": 2, "images": 1,
    }  # fmt: skip
