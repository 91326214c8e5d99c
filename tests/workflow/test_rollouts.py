"""What makes the rollouts of a set stale: its own scaffold and sampling, its own model; not prices, speed or others."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Checkout, copy_sources

CONFIG = "config/taught.yaml"
KINDS = {"codeact": "codeact", "moatless": "moatless", "mini": "mini", "single": "single_edit", "taught": "codeact"}
SHARD = "results/taught/rollouts/{}/runs-0-1/shard-0.jsonl"
TEACHER = {
    "kind": "endpoint",
    "base_url": "http://127.0.0.1:9/v1",
    "model": "big",
    "dollars_per_million": {"input": 1, "output": 2},
}


def sampling(name: str) -> dict:
    settings = {"scaffold": {"kind": KINDS[name]}} | ({"max_dollars": 2} if name == "taught" else {})
    return {"policy": "teacher" if name == "taught" else "base", "dataset": "two", "runs": 2, "settings": settings}


def targets() -> list[str]:
    return [SHARD.format(name) for name in KINDS]


def plans(checkout: Checkout) -> dict[str, str]:
    """What Snakemake means to do about each file that the rollouts need, by the last column of its summary."""
    lines = checkout.snakemake(*targets(), "--configfile", CONFIG, "--summary").stdout.splitlines()[1:]
    return {line.split("\t")[0]: line.split("\t")[-1] for line in lines if line.startswith("results/")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Every file that the rollouts of five sets need, and the rollouts, in Snakemake's books as made; all are empty."""
    checkout = copy_sources(tmp_path_factory.mktemp("rollouts"))
    config = {
        "run": "taught",
        "environments": {"py311": {"requirements": ["pytest==8.4.2"]}},
        "datasets": {"two": {"environment": "py311", "split": "eval", "packages": {"sqlparse==0.5.3": 1}}},
        "models": {"base": {"kind": "folder", "path": "nowhere"}, "teacher": TEACHER},
        "rollouts": {name: sampling(name) for name in KINDS},
    }
    (checkout.path / CONFIG).write_text(yaml.safe_dump(config))
    for path in plans(checkout):
        file = checkout.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.mkdir() if path == "results/models/base" else file.touch()
    checkout.snakemake(*targets(), "--configfile", CONFIG, "--forceall", "--touch")
    return checkout


def code(module: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        file = root / "workflow/swedag" / module
        file.write_text(file.read_text() + "\n# edited\n")

    return edit


def key(*names: str, to: object) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        values = yaml.safe_load((root / CONFIG).read_text())
        block = values
        for name in names[:-1]:
            block = block.setdefault(name, {})
        block[names[-1]] = to
        (root / CONFIG).write_text(yaml.safe_dump(values))

    return edit


SETTINGS = ("rollouts", "taught", "settings")
EDITS = {
    "nothing": (lambda root: None, set()),
    "codeact": (code("scaffolds/codeact/prompts.py"), {"codeact", "taught"}),
    "moatless": (code("scaffolds/moatless/index.py"), {"moatless"}),
    "mini": (code("scaffolds/mini.py"), {"mini"}),
    "single edit": (code("scaffolds/single_edit.py"), {"single"}),
    "what all scaffolds share": (code("scaffolds/protocol.py"), {*KINDS}),
    "serving": (code("serving/command.py"), {*KINDS} - {"taught"}),
    "sandbox": (code("sandbox/sandbox.py"), {*KINDS}),
    "temperature": (key("rollouts", "mini", "settings", "temperature", to=0.5), {"mini"}),
    "concurrency": (key("rollouts", "mini", "settings", "concurrency", to=3), set()),
    "context": (key("rollouts", "mini", "settings", "serving", "max_model_len", to=512), {"mini"}),
    "limit of cost": (key(*SETTINGS, "max_dollars", to=99), set()),
    "prices": (key("models", "teacher", "dollars_per_million", "input", to=5), set()),
    "another teacher": (key("models", "teacher", "model", to="bigger"), {"taught"}),
}  # fmt: skip


@pytest.mark.parametrize("change", EDITS)
def test_an_edit_makes_stale_what_depends_on_it_and_nothing_else(made: Checkout, change: str) -> None:
    edit, stale = EDITS[change]
    files = [*(made.path / "workflow/swedag").rglob("*.py"), made.path / CONFIG]
    before = {path: (path.read_bytes(), path.stat()) for path in files}
    try:
        edit(made.path)
        found = plans(made)
    finally:
        for path, (content, stat) in before.items():
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert {name for name in KINDS if found[SHARD.format(name)] != "no update"} == stale


def test_a_teacher_needs_no_folder_and_no_job_of_its_own(made: Checkout) -> None:
    done = made.snakemake("all", "--configfile", CONFIG, "--dry-run", "--quiet", "rules")
    assert "models/teacher" not in done.stdout + done.stderr
    assert "results/models/base" in plans(made)
