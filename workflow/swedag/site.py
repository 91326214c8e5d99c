"""What a cluster is like: its accounts, partitions, GPUs and disks. The Slurm profile takes all such values from here.

A value comes from its variable in the environment ($SWEDAG_<NAME IN CAPITALS>), else from `slurm/site.yaml` of the
checkout, which `swedag init-site` writes by asking Slurm, else it is left to Slurm.
"""

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swedag.errors import SwedagError

SITE_FILE = Path("slurm/site.yaml")  # `--profile slurm` is found from the same folder
PREFIX = "SWEDAG_"
Resources = dict[str, str | int]


class Site(BaseModel):
    """Values of a site; None leaves the choice to Slurm."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    account: str | None = Field(None, description="Slurm account that pays for the jobs")
    qos: str | None = Field(None, description="Quality of service of all jobs")
    cpu_partition: str | None = Field(None, description="Partition of jobs without GPUs")
    cpu_minutes: int = Field(1440, gt=0, description="Its time limit")
    cpu_memory_mb: int = Field(64000, gt=0, description="Memory of its nodes")
    cpu_cores: int = Field(8, gt=0, description="Cores of its nodes")
    gpu_partition: str | None = Field(None, description="Partition of jobs with GPUs")
    gpu_minutes: int = Field(1440, gt=0, description="Its time limit")
    gpu_memory_mb: int = Field(64000, gt=0, description="Memory of its nodes")
    gpu_cores: int = Field(8, gt=0, description="Cores of its nodes")
    gpus: int = Field(0, ge=0, description="GPUs of one of its nodes; 0: the cluster has none, all runs on CPUs")
    gpu_type: str | None = Field(None, description="Type of GPU, as Slurm names it; null: any")
    node_local: str | None = Field(
        None, description="Folder on the node's own disk, may name $SLURM_JOB_ID and the like; null: $TMPDIR or /tmp"
    )
    status_command: Literal["squeue", "sacct"] = Field(
        "squeue", description="How Snakemake asks for the state of jobs; see docs/hpc.md before you choose sacct"
    )

    def job(self, gb: int, hours: int) -> Resources:
        """Snakemake's resources of a job without GPUs; memory and time grow with each attempt, up to the limits."""
        return {
            "mem_mb": _growing(gb * 1000, self.cpu_memory_mb),
            "runtime": _growing(hours * 60, self.cpu_minutes),
            **_given(slurm_partition=self.cpu_partition),
        }

    def gpu_job(self, gb: int, hours: int, gpus: int | None = None) -> Resources:
        """The same of a job with `gpus` GPUs (None: as many as its rule says); without GPUs here, a job like others."""
        if not self.gpus:
            return {**self.job(gb, hours), "gpu": 0}
        return {
            "mem_mb": _growing(gb * 1000, self.gpu_memory_mb),
            "runtime": _growing(hours * 60, self.gpu_minutes),
            **_given(slurm_partition=self.gpu_partition, gpu_model=self.gpu_type, gpu=gpus),
        }

    def threads(self, wanted: int) -> int:
        """So many threads, or as many as a node without GPUs has cores."""
        return min(wanted, self.cpu_cores)

    def gpu_threads(self, wanted: int) -> int:
        return min(wanted, self.gpu_cores) if self.gpus else self.threads(wanted)

    def any_job(self, gb: int, hours: int) -> Resources:
        """Resources of rules that name none, and those that are the same for every job."""
        shared = _given(slurm_account=self.account, qos=self.qos, tmpdir=self.node_local)
        # Else Snakemake looks at the sizes of all inputs of every job.
        return {**self.job(gb, hours), "disk_mb": 1000, **shared}

    def apptainer_arguments(self) -> str:
        """For the rules that run in an image of their own: the GPUs, and the folder of temporary files."""
        return " ".join(["--nv", *(["--bind", self.node_local] if self.node_local else [])])


def _growing(amount: int, most: int) -> str:
    return f"min(attempt * {amount}, {most})"


def _given(**values: str | int | None) -> Resources:
    return {name: value for name, value in values.items() if value is not None}


def read_site(file: Path = SITE_FILE) -> Site:
    """The values of this site. SwedagError names the file or variable that holds a wrong one."""
    try:
        written = yaml.safe_load(file.read_text()) if file.exists() else {}
    except (OSError, yaml.YAMLError) as error:
        raise SwedagError(f"{file}: cannot be read: {error}; `swedag init-site` writes a new one") from error
    if not isinstance(written or {}, dict):
        raise SwedagError(f"{file}: must hold `name: value` lines; `swedag init-site` writes a new one")
    variables = {name: f"{PREFIX}{name.upper()}" for name in Site.model_fields}
    named = {name: os.environ[variable] or None for name, variable in variables.items() if variable in os.environ}
    try:
        return Site.model_validate({**(written or {}), **named})
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        where = f"${variables[key]}" if key in named else f"{file}: {key}"
        raise SwedagError(f"{where}: {problem['msg']}") from error
