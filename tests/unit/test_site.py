"""A site's values: file below environment, mistakes named; what the profile makes of them; what Slurm's answers mean."""

from pathlib import Path

import pytest
import yte

from swedag.errors import SwedagError
from swedag.init_site import minutes, partitions
from swedag.site import Site, read_site
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Site.model_fields:
        monkeypatch.delenv(f"SWEDAG_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    return tmp_path / "slurm/site.yaml"


def profile() -> dict:
    return yte.process_yaml((ROOT / "slurm/profile.yaml").open(), require_use_yte=True)


def test_without_a_file_all_is_left_to_slurm():
    assert read_site() == Site()
    assert "slurm_partition" not in profile()["default-resources"]
    assert profile()["set-resources"]["train"]["gpu"] == 0


def test_the_environment_overrides_the_file(site_file: Path, monkeypatch: pytest.MonkeyPatch):
    site_file.write_text("account: 4711\ngpus: 4\ngpu_partition: big\n")
    monkeypatch.setenv("SWEDAG_GPU_PARTITION", "small")
    assert read_site() == Site(account="4711", gpus=4, gpu_partition="small")
    monkeypatch.setenv("SWEDAG_ACCOUNT", "")
    assert read_site().account is None


def test_gpu_rules_go_where_the_gpus_are(site_file: Path):
    site_file.write_text("{gpus: 4, gpu_type: h100, gpu_partition: big, cpu_partition: small, gpu_minutes: 600}\n")
    resources = profile()["set-resources"]
    assert resources["train"]["slurm_partition"] == resources["rollouts"]["slurm_partition"] == "big"
    assert resources["train"]["gpu"] == 4 and "gpu" not in resources["rollouts"]
    assert resources["train"]["runtime"] == "min(attempt * 1440, 600)"
    assert resources["grade"]["slurm_partition"] == "small" and "gpu" not in resources["grade"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("gpus: many\n", "slurm/site.yaml: gpus"), ("acount: x\n", "slurm/site.yaml: acount"), ("[", "slurm/site.yaml"),
     ("word\n", "slurm/site.yaml")],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named(site_file: Path, text: str, named: str):
    site_file.write_text(text)
    with pytest.raises(SwedagError, match=named):
        read_site()


def test_a_mistake_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SWEDAG_GPUS", "many")
    with pytest.raises(SwedagError, match=r"\$SWEDAG_GPUS"):
        read_site()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1-00:00:00", 1440), ("2-12:30:00", 3630), ("08:00:00", 480), ("30:00", 30), ("infinite", 7 * 1440)],
)
def test_time_limits_are_read(limit: str, expected: int):
    assert minutes(limit) == expected


def test_partitions_are_read_as_sinfo_prints_them():
    found = partitions(
        "batch*|up|1-00:00:00|120|64|256000|(null)\n"
        "gpu|up|2-00:00:00|8|128|1000000|gpu:h100:8(S:0-1)\n"
        "gpu|up|2-00:00:00|2|64+|500000+|gpu:a100:4(S:0),nvme:1\n"
        "old|down|infinite|3|8|1000|(null)\n"
    )
    assert [(one.name, one.default, one.nodes, one.gpus, one.gpu_type) for one in found] == [
        ("batch", True, 120, 0, None), ("gpu", False, 10, 4, None),
    ]  # fmt: skip
    assert found[1].memory_mb == 500000 and found[1].cores == 64
