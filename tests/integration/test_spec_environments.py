"""An environment of a spec, from a repository's history to the gate: package, command, extension, all by its install."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from swedag.apptainer import find_apptainer
from swedag.datasets import step
from swedag.grading.gate import ledger_row
from swedag.grading.run import GradingSettings
from swedag.images import layers, mirror, spec
from swedag.images.mirror import BuildSettings
from swedag.instances import Instance, read_instances
from swedag.sandbox import Sandbox
from tests.integration.images import operating_system

pytestmark = pytest.mark.integration
SPEC = """\
repository: example/Ledger
log_parser: pytest
environments:
  - name: "1.0"
    versions: ["1.0"]
    python: "3.12"
    system_packages: [hello]
    requirements: [absent.txt, requirements.txt]
    pip_packages: [pytest==8.4.2]
    prepare:
    - export GREETING="made by $(hello)"
    install:
    - echo "$GREETING" >src/ledger/greeting.txt
    - python -m pip install -q -e .
    test_command: pytest -rA
"""
PYPROJECT = """\
[build-system]
requires = ["setuptools==80.9.0"]
build-backend = "setuptools.build_meta"
[project]
name = "ledger"
version = "1.0"
[project.scripts]
ledger-total = "ledger:main"
[tool.setuptools]
packages = ["ledger"]
package-dir = {"" = "src"}
ext-modules = [{name = "ledger._sum", sources = ["src/ledger/_sum.c"]}]
"""
EXTENSION = """\
#include <Python.h>
static PyObject *add(PyObject *self, PyObject *arguments) {
    long a, b;
    if (!PyArg_ParseTuple(arguments, "ll", &a, &b)) return NULL;
    return PyLong_FromLong(a + b);
}
static PyMethodDef methods[] = {{"add", add, METH_VARARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sum", 0, -1, methods};
PyMODINIT_FUNC PyInit__sum(void) { return PyModule_Create(&module); }
"""
MODULE = """\
import sys

from ledger._sum import add


def total(items):
    result = 0
    for item in items:
        result = add(result, -item)
    return result


def main():
    print(total(map(int, sys.argv[1:])))
"""
TESTS = """\
import subprocess
from importlib import metadata
from pathlib import Path

import ledger


def test_installed():
    assert metadata.version("ledger") == "1.0"
    greeting = Path(ledger.__file__).with_name("greeting.txt").read_text()
    assert greeting == "made by " + subprocess.run(["hello"], capture_output=True, text=True).stdout
"""
TEST_OF_THE_FIX = """\


def test_command():
    assert subprocess.run(["ledger-total", "1", "2"], capture_output=True, text=True).stdout == "3\\n"
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "requirements.txt": "iniconfig==2.0.0\n",
    "src/ledger/_sum.c": EXTENSION,
    "src/ledger/__init__.py": MODULE,
    "tests/test_ledger.py": TESTS,
}


@dataclass(frozen=True)
class Built:
    """The images of two instances, an older and a newer one, in one environment that was made from the newer."""

    images: Path
    rows: dict[str, Instance]
    environment: Path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "a commit")
    return git(folder, "rev-parse", "HEAD").strip()


def published(folder: Path) -> list[dict]:
    """Rows of two base commits, with the patches of the commit that follows."""
    git(folder, "init", "-q", "-b", "main")
    bases = [commit(folder, FILES), commit(folder, {"NEWS": "nothing yet\n"})]
    fix = commit(
        folder,
        {
            "src/ledger/__init__.py": MODULE.replace("-item", "item"),
            "tests/test_ledger.py": TESTS + TEST_OF_THE_FIX,
        },
    )
    return [
        {
            "instance_id": f"example__Ledger-{number}",
            "repo": "example/Ledger",
            "base_commit": base,
            "version": "1.0",
            "problem_statement": "totals have the wrong sign",
            "created_at": f"2024-01-0{number}T00:00:00Z",
            "patch": git(folder, "diff", bases[1], fix, "--", "src"),
            "test_patch": git(folder, "diff", bases[1], fix, "--", "tests"),
            "FAIL_TO_PASS": ["tests/test_ledger.py::test_command"],
            "PASS_TO_PASS": ["tests/test_ledger.py::test_installed"],
        }
        for number, base in enumerate(bases, 1)
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("spec")
    origin, images = folder / "origin", folder / "images"
    origin.mkdir()
    rows = published(origin)
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "spec.yaml").write_text(SPEC)
    settings = BuildSettings(source="build", python="3.11", constraints=["pluggy==1.5.0"])
    chosen = step.PublishedSettings(
        kind="published", source=step.FileSource(path=str(folder / "rows.jsonl")), images=settings
    )
    instances = folder / "instances.jsonl"
    step.main(
        chosen.model_dump_json(), folder / "rows.jsonl", instances, folder / "rows.csv", specs=[folder / "spec.yaml"]
    )
    repository = images / "mirrors/example__Ledger.git"
    mirror.main(str(origin), repository)
    environment = images / "envs/example__ledger-1.0-v1.0-py3.11.sif"
    written = environment.with_suffix(".testbed.tar")
    spec.main(
        environment.stem, folder / "spec.yaml", settings.model_dump_json(), instances, repository,
        operating_system(), environment, written,
    )  # fmt: skip
    made = read_instances(instances)
    layers.main([*made], instances, images, folder / "work", folder / "records.jsonl")
    return Built(images, made, environment)


def test_both_instances_pass_their_gates_in_the_one_environment(built: Built):
    for row in built.rows.values():
        assert row.environment == built.environment.stem
    older = built.rows["example__Ledger-1"]
    ledger = ledger_row(older, built.images, GradingSettings(timeout_seconds=60))
    assert (ledger.passed, ledger.gold_outcome, ledger.empty_outcome) == (True, "resolved", "unresolved"), ledger.reason


def test_the_install_is_that_of_testbed_and_git_sees_nothing_of_it(built: Built):
    name = "example__Ledger-1"
    with Sandbox(built.environment, built.images / f"instances/{name}.sqsh") as sandbox:
        assert sandbox.run("git status --porcelain; git rev-list --all --count; ls NEWS 2>/dev/null").output == "1\n"
        assert sandbox.run("ls src/ledger/*.so src/ledger/greeting.txt | wc -l").output == "2\n"
        where = sandbox.run("cd / && python -c 'import ledger; print(ledger.__file__)'").output
        assert where == "/testbed/src/ledger/__init__.py\n"
        assert sandbox.run("hello").output == "Hello, world!\n"
        installed = sandbox.run("cat /opt/env/installed.txt").output
        assert {"iniconfig==2.0.0", "pluggy==1.5.0", "pytest==8.4.2"} <= set(installed.splitlines())


def test_the_definition_in_the_image_says_what_was_run(built: Built):
    command = [find_apptainer(), "inspect", "--deffile", str(built.environment)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    newer = built.rows["example__Ledger-2"].base_commit
    assert f"swedag.repository example/Ledger\n    swedag.version 1.0\n    swedag.commit {newer}\n" in said
    assert "python -m pip install -q -e ." in said and "libffi-dev" in said and "hello" in said
