import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from swedag.config import load
from swedag.errors import SwedagError
from swedag.past import Past, read_past
from swedag.plan import Assumptions, assumptions, main, plan, pull_hours, read_together, rows_of, size_of

PAPER = Path("config/paper.yaml")
DEMO = Path("config/demo.yaml")


@pytest.fixture(scope="module")
def paper():
    return load(yaml.safe_load(PAPER.read_text()), [PAPER])


def stages(config, past=None, **changes):
    return {stage.stage: stage for stage in plan(config, Assumptions(**changes), past or Past())}


@pytest.mark.parametrize(
    ("pulls", "limit", "hours"), [(0, 100, 0), (1, 100, 0), (100, 100, 0), (101, 100, 6), (2850, 200, 84)]
)
def test_pulls_wait_for_the_window_of_the_registry(pulls, limit, hours):
    assert pull_hours(pulls, limit) == hours


def test_the_paper_in_numbers(paper):
    found = stages(paper)
    ids = {name: set(paper.instance_ids(name)) for name in paper.datasets}
    images = len(ids["swe-bench-lite"] | ids["swe-bench-verified"]) + len(ids["swe-gym"] | ids["swe-gym-lite"])
    assert found["images"].pulls == found["images"].units == found["gates"].units == images
    assert found["images"].gigabytes == pytest.approx(2.6 * images)
    assert found["rollouts"].units == found["grades"].units == sum(
        made.runs * len(ids[made.dataset]) for made in paper.rollouts.values()
    )  # fmt: skip
    assert found["base models"].gigabytes == 2 * (7 + 14 + 32)
    assert min(found[name].gpu_hours for name in ("rollouts", "training", "verifiers", "scores")) > 10
    twice = stages(paper, codeact_gpu_seconds=0.8, moatless_gpu_seconds=0.4, server_start_seconds=0)["rollouts"]
    once = stages(paper, server_start_seconds=0)["rollouts"]
    assert twice.gpu_hours == pytest.approx(2 * once.gpu_hours) and twice.jobs == once.jobs


def test_what_endpoints_charge(paper, capsys):
    files = [PAPER, PAPER.parent / "overlays/teachers.yaml"]
    taught = load(read_together(files), files)
    ids = {name: len(taught.instance_ids(name)) for name in ("swe-gym-lite", "swe-gym")}
    paid = 8 * ids["swe-gym-lite"] + 2 * ids["swe-gym"]
    assert stages(taught, endpoint_dollars=1.5)["rollouts"].dollars == 1.5 * paid
    assert {stage.dollars for stage in stages(paper).values()} == {0.0}
    main(files)
    assert f"{paid:,}.0 │" in capsys.readouterr().out


def test_a_small_model_needs_no_gpu():
    config = load(yaml.safe_load(DEMO.read_text()), [DEMO])
    assert {stage.gpu_hours for stage in stages(config).values()} == {0.0}
    assert stages(config)["images"].pulls == 0


def test_sizes_and_rows_follow_from_names_and_filters(paper):
    assert (size_of(paper, "oh-14b"), size_of(paper, "ml-7b-2")) == (14, 7)
    known = Assumptions()
    kept = {name: rows_of(paper, name, known) for name in paper.training_sets}
    assert kept["oh-all"] == 491 and kept["oh-random-50"] == 245.5
    assert kept["oh-dedup"] == pytest.approx(294.6) and kept["ml-cap-1"] <= kept["ml-cap-3"] <= kept["ml-cap-none"]


def test_past_runs_take_the_place_of_assumptions(paper, tmp_path):
    def past_job(place: str, rows: list[dict], seconds: float, cpu: float) -> None:
        for folder, lines in (("results", rows), ("benchmarks", [{"s": seconds, "cpu_time": cpu}])):
            path = tmp_path / folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    rollout = {"policy": "oh-32b", "scaffold": "codeact", "instance_id": "django__django-1"}
    pulled = {"outcome": "converted"}
    past_job("mine/rollouts/a/runs-0-0/shard-0.jsonl", [rollout] * 10, seconds=500, cpu=100)
    past_job("mine/grades/a/runs-0-0/shard-0.jsonl", [rollout] * 5 + [{"instance_id": "a__b-1"}] * 5, 100, cpu=20)
    past_job("mine/images/d/shard-0.images.jsonl", [pulled | {"bytes": n * 10**9} for n in (1, 3)], 60, cpu=100)
    past_job(
        "mine/images/e/shard-0.images.jsonl",
        [{"outcome": "built", "bytes": 9}, {"outcome": "missing", "bytes": 0}],
        5,
        5,
    )
    past_job("mine/images/d/shard-0.gates.jsonl", [{"instance_id": "a__b-1"}], 60, cpu=44)
    (tmp_path / "benchmarks/mine/checkpoints").mkdir()
    (tmp_path / "benchmarks/mine/checkpoints/oh-32b.jsonl").write_text('{"s": 7200, "cpu_time": null}\n')
    (tmp_path / "results/mine/checkpoints/oh-32b").mkdir(parents=True)
    past_job("mine/rollouts/gone/runs-0-0/shard-0.jsonl", [rollout], 9, 9)
    (tmp_path / "results/mine/rollouts/gone/runs-0-0/shard-0.jsonl").unlink()

    past = read_past(tmp_path, ["mine", "paper"])
    assert past.wall("rollouts of oh-32b by codeact") == 50 and past.cpu("grades of django__django", 260) == 2
    assert past.cpu("grades of dask__dask", 260) == 260 and past.gigabytes("pulls", 2.6) == 2
    assert past.cpu("layers", 7) == 5 and past.cpu("gates of a__b", 260) == 44
    before, after = stages(paper), stages(paper, past)
    assert after["images"].gigabytes == pytest.approx(2 * after["images"].units)
    assert after["images"].cpu_hours == pytest.approx(50 * after["images"].units / 3600)
    assert after["grades"].cpu_hours < before["grades"].cpu_hours
    changed = sum(
        made.runs * len(paper.instance_ids(made.dataset)) for made in paper.rollouts.values() if made.policy == "oh-32b"
    )
    alone = stages(paper, codeact_gpu_seconds=0, moatless_gpu_seconds=0, server_start_seconds=0)
    measured = plan(paper, Assumptions(codeact_gpu_seconds=0, moatless_gpu_seconds=0, server_start_seconds=0), past)
    assert alone["rollouts"].gpu_hours == 0
    assert next(s for s in measured if s.stage == "rollouts").gpu_hours == pytest.approx(changed * 50 * 4 / 3600)
    assert {"pulls", "rollouts of oh-32b by codeact", "training of oh-32b"} <= past.used


def test_a_later_config_says_what_is_different(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("rollouts: {oh-32b-16-runs: {runs: 32}}\ntables: {figure4: {k: 1-32}}\n")
    both = load(read_together([PAPER, over]), [PAPER, over])
    assert both.rollouts["oh-32b-16-runs"].runs == 32 and both.rollouts["oh-32b-16-runs"].policy == "oh-32b"
    assert both.tables["figure4"].k == "1-32" and both.tables["figure4"].sets == ["oh-32b-16-runs"]


def test_the_plan_as_csv(capsys, tmp_path):
    main([DEMO], root=tmp_path, as_csv=True)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == [
        "stage",
        "jobs",
        "units",
        "gpu_hours",
        "cpu_hours",
        "gigabytes",
        "inodes",
        "pulls",
        "dollars",
    ]
    main([PAPER], root=tmp_path)
    text = capsys.readouterr().out
    assert "Docker pulls without an account (100 in 6 h): 168 h" in text and "image_gb = 2.6" in text
    assert "in their place: nothing" in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("image_bg=3", r"--assume image_bg: .*known: image_gb"),
        ("image_gb=", "--assume image_gb"),
        ("resolved_share=2", "--assume resolved_share"),
    ],
)
def test_assumptions_that_cannot_be_set(given, message):
    with pytest.raises(SwedagError, match=message):
        assumptions([given])


def test_files_that_are_no_configs_or_benchmarks(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "torn.yaml").write_text("a: [")
    refusals = {"absent.yaml": "No such file", "torn.yaml": "cannot be read as YAML", "list.yaml": "holds no keys"}
    for name, message in refusals.items():
        with pytest.raises(SwedagError, match=message):
            main([tmp_path / name])
    (tmp_path / "results/mine/checkpoints/a-1").mkdir(parents=True)
    bad = tmp_path / "benchmarks/mine/checkpoints/a-1.jsonl"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    with pytest.raises(SwedagError, match=r"a-1\.jsonl:1: not a benchmark"):
        read_past(tmp_path, ["mine"])
