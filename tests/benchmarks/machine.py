"""The machine that a benchmark ran on, and how busy it was: figures mean nothing without it."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from swedag.apptainer import find_apptainer, run_tool
from swedag.errors import SwedagError


def describe() -> dict[str, str]:
    """CPU model, usable cores, memory, kernel, versions, time and load average, each as text."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    memory = Path("/proc/meminfo").read_text().splitlines()
    return {
        "CPU": next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")), "unknown"),
        "cores": str(cores()),
        "memory": f"{int(memory[0].split()[1]) >> 20} GiB",
        "kernel": platform.release(),
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "Apptainer": _apptainer(),
        "Python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load average at the start": load(),
    }


def _apptainer() -> str:
    try:
        return run_tool("Apptainer", find_apptainer(), "--version").split()[-1]
    except SwedagError:
        return "none"


def cores() -> int:
    return len(os.sched_getaffinity(0))


def load() -> str:
    """Processes that wanted to run, over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])
