"""Faults on a real Slurm: the run ends in the right rows or in a message with the cause, and nothing is done twice."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_sources
from tests.slurm.cluster import until
from tests.slurm.conftest import CONFIG, RESULTS, Site

pytestmark = pytest.mark.integration
SHARD = "rft-0-train/runs-0-15/shard-1"
ROLLOUTS = f"{RESULTS}/rollouts/{SHARD}.jsonl"
# The other shard, of four instances.
ALL_ROLLOUTS = f"{RESULTS}/rollouts/rft-0-train/runs-0-15/shard-0.jsonl"
GRADES = f"{RESULTS}/grades/rft-0-train/runs-0-15/shard-0.jsonl"
CLOCKS = ("seconds", "attempts", "log_tail")
NO_GPUS = {"SWEDAG_GPUS": "0"}


@pytest.fixture
def site(whole: Site, tmp_path: Path) -> Iterator[Site]:
    """A checkout with what a shard of rollouts needs; it samples one rollout after the other, so that there is a middle.

    Servers run in the tool environment, where they start sooner, unless a test says otherwise.
    """
    checkout = copy_sources(tmp_path)
    text = (whole.checkout.path / CONFIG).read_text()
    assert "max_tokens: 24," in text
    text = text.replace("max_tokens: 24,", "max_tokens: 24, concurrency: 1,")
    (checkout.path / CONFIG).write_text(f"{text}\nserve_image: null\n")
    for made in ("images", "models", "mini/instances", "mini/images"):
        shutil.copytree(whole.checkout.path / "results" / made, checkout.path / "results" / made, symlinks=True)
    site = Site(whole.cluster, checkout)
    yield site
    site.end()


@pytest.fixture
def expected(whole: Site) -> list[dict]:
    return rows(whole, ROLLOUTS)


def rows(site: Site, path: str) -> list[dict]:
    """Rows of a shard but for what depends on the clock and on faults."""
    lines = (site.checkout.path / path).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCKS} for line in lines]


def submissions(said: str) -> int:
    return said.count("has been submitted with SLURM jobid")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A node's own, with a path as short as such have."""
    with tempfile.TemporaryDirectory(prefix="node-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_cancelled_job_is_tried_again_and_leaves_nothing(site: Site, expected: list[dict], disk: Path):
    """No rollout is made twice, and of what the killed processes had on the node's disk nothing stays: the server was
    in its image, as it is where nothing else is said."""
    config = site.checkout.path / CONFIG
    config.write_text(config.read_text().removesuffix("serve_image: null\n"))
    run = site.start(ROLLOUTS, SWEDAG_NODE_LOCAL=str(disk), **NO_GPUS)
    job, records = site.in_the_middle_of(SHARD, run, 5)
    assert list(disk.glob("swedag-serve-*"))
    site.cluster.say("scancel", job)
    said = run.finish()
    assert not list(disk.glob("swedag-serve-*"))
    assert "'CANCELLED'" in said and submissions(said) == 2
    assert site.kept(SHARD) >= records
    assert rows(site, ROLLOUTS) == expected


def test_a_job_stops_before_its_time_is_over_and_goes_on_with_more_of_it(site: Site, expected: list[dict]):
    """Slurm counts in minutes: the first attempt has one, which the server's start alone half uses up."""
    run = site.start(
        ROLLOUTS, options=("--set-resources", "rollouts:gpu=0", "rollouts:runtime=1 if attempt == 1 else 10")
    )
    said = run.finish()
    assert "the job's time is nearly over" in said or "'TIMEOUT'" in said
    assert submissions(said) == 2
    assert rows(site, ROLLOUTS) == expected


def test_preempted_then_its_node_down_then_the_controller_restarted(site: Site, expected: list[dict]):
    """Slurm itself starts the job again, under its own id: Snakemake submits it once and sees it end once."""
    cluster = site.cluster
    run = site.start(ROLLOUTS, **NO_GPUS, SWEDAG_CPU_PARTITION="spare")
    job, preempted_with = site.in_the_middle_of(SHARD, run, 3)
    here = f"--nodelist={cluster.place(job)}"
    cluster.say("sbatch", "--partition=urgent", "--exclusive", here, "--output=/dev/null", "--wrap=true")
    until(lambda: cluster.starts(job) == 2, "the job runs again")
    _, down_with = site.in_the_middle_of(SHARD, run, preempted_with + 3)
    cluster.say("scontrol", "update", f"nodename={cluster.place(job)}", "state=down", "reason=test")
    until(lambda: cluster.starts(job) == 3, "the job runs once more")
    # Not before its step has begun: Slurm 22.05 forgets to start that of a job which its new controller finds without.
    site.in_the_middle_of(SHARD, run, down_with + 4)
    cluster.stop("slurmctld")
    cluster.start_controller()
    said = run.finish()
    assert submissions(said) == 1
    assert site.kept(SHARD) >= down_with
    assert rows(site, ROLLOUTS) == expected


def test_snakemake_killed_and_started_again_while_its_job_lives_on(site: Site, expected: list[dict]):
    """The old job is told to stop by the new one, which takes over what it has done. A second Snakemake is refused.

    The old one's server is held, so that it is still at work however fast the machine is.
    """
    killed = site.start(ROLLOUTS, **NO_GPUS)
    old, records = site.in_the_middle_of(SHARD, killed, 5)
    site.server().suspend()
    killed.kill()
    refused = site.start(ROLLOUTS, **NO_GPUS).finish(status=1)
    assert "--unlock" in refused and submissions(refused) == 0
    site.start("--unlock", **NO_GPUS).finish()
    again = site.start(ROLLOUTS, **NO_GPUS)
    until(lambda: len(site.cluster.jobs("RUNNING")) == 2 or again.ended(), "the new job runs beside the old one")
    second = site.start(ROLLOUTS, **NO_GPUS).finish(status=1)
    assert "--unlock" in second and submissions(second) == 0
    again.finish()
    assert site.kept(SHARD) >= records
    assert rows(site, ROLLOUTS) == expected
    assert old not in site.cluster.jobs()


@pytest.fixture(params=["full", "too small for an image"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = tmp_path / "node-local"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    if request.param == "full":
        with pytest.raises(OSError, match="No space left"):
            (folder / "filler").write_bytes(bytes(1 << 20))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_without_space_on_the_node_the_same_grades_come(site: Site, whole: Site, small_disk: Path):
    shutil.copytree(whole.results / "rollouts", site.results / "rollouts")
    said = site.start(GRADES, SWEDAG_NODE_LOCAL=str(small_disk), **NO_GPUS).finish()
    assert submissions(said) == 1
    assert rows(site, GRADES) == rows(whole, GRADES)


def test_one_bad_instance_is_named_and_costs_the_others_nothing(site: Site, whole: Site):
    """Its layer is damaged: too many of so small a shard for the default; with more allowed, a row that says so."""
    shutil.copytree(whole.results / "rollouts", site.results / "rollouts")
    named = [(row["instance_id"], bool(row["patch"])) for row in rows(site, ALL_ROLLOUTS)]
    bad, *others = sorted({name for name, patched in named if patched})
    assert others
    [layer] = (site.checkout.path / "results/images/instances").glob(f"{bad}.*sqsh")
    layer.write_bytes(b"hsqs, but damaged" * 1000)

    failed = site.start(GRADES, options=("--retries", "0"), **NO_GPUS).finish(status=1)
    assert "patches could not be tested" in failed and layer.name in failed
    config = site.checkout.path / CONFIG
    config.write_text(config.read_text().replace("grading: {", "grading: {max_infrastructure_failures: 0.9, "))
    site.start(GRADES, **NO_GPUS).finish()
    for (name, patched), found, expected in zip(named, rows(site, GRADES), rows(whole, GRADES), strict=True):
        if (name, patched) == (bad, True):
            assert found["outcome"] == "infrastructure_failure" and found["resolved"] is None and found["reason"]
        else:
            assert found == expected
