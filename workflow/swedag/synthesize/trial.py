"""Tests run for synthesis: the released package as it is, then with one candidate bug at a time.

All of it happens in sandboxes over one layer, the released package; a bug is one file written into it and put back.
In: test commands, candidates. Out: statuses by test. Bugs that hang are stopped by their CPU time, which does not
depend on how busy the machine is.
"""

import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from swedag.artifacts import sha256
from swedag.errors import SwedagError
from swedag.grading import logs
from swedag.grading.patches import is_test_path
from swedag.sandbox import Sandbox
from swedag.synthesize import tracer
from swedag.synthesize.candidates import Candidate, Coverage

ENVIRONMENT = "PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0"
COMMAND_SECONDS = 60
# More tests than this are named by their files: pytest matches ids one by one.
MOST_IDS = 150


@dataclass(frozen=True)
class Run:
    """Statuses of one run of tests, pytest's exit code (None: stopped), and the end of its log."""

    statuses: dict[str, str]
    exit_code: int | None
    tail: str = ""


class Released(BaseModel):
    """The package as released: its suite's statuses, the lines that each test runs, and the sources run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    statuses: dict[str, str]
    coverage: Coverage
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """Content of what a trial of a bug depends on."""
        return sha256(json.dumps([self.statuses, self.files], sort_keys=True))


@dataclass(frozen=True)
class Found:
    """What a bug does to the tests; both lists are sorted, `test_files` are those of the failing tests."""

    failing: list[str]
    passing: list[str]
    test_files: list[str]


def run_tests(sandbox: Sandbox, command: str, seconds: int, prefix: str = "") -> Run:
    """Run pytest at /testbed for at most `seconds` of CPU time per process, and twice that of wall time."""
    line = f"( cd /testbed; ulimit -S -t {seconds}; export {ENVIRONMENT} {prefix}; {command} )"
    result = sandbox.run(line, 2 * seconds + COMMAND_SECONDS)
    return Run(logs.parse(logs.without_colour(result.output), "pytest"), result.exit_code, result.output[-1500:])


def run_released(sandbox: Sandbox, command: str, seconds: int) -> Released:
    """The suite with line tracing, and the text of every source file (no test) that it runs."""
    sandbox.write("/tmp/trace/swedag_tracer.py", inspect.getsource(tracer).encode())
    run = run_tests(
        sandbox,
        f"{command} -p swedag_tracer",
        seconds,
        prefix="PYTHONPATH=/tmp/trace:$PYTHONPATH SWEDAG_TRACE=/tmp/trace/lines.json",
    )
    if run.exit_code not in (0, 1):
        raise SwedagError(f"the test suite does not run (exit code {run.exit_code}): {run.tail[-600:]}")
    try:
        coverage = Coverage.model_validate_json(sandbox.read("/tmp/trace/lines.json"))
    except FileNotFoundError as error:
        raise SwedagError(f"the traced test suite left no trace: {run.tail[-600:]}") from error
    listed = sandbox.run("cd /testbed && git -c safe.directory='*' ls-files", COMMAND_SECONDS).output.splitlines()
    wanted = [path for path in listed if path in coverage.lines and path.endswith(".py") and not is_test_path(path)]
    texts = {path: sandbox.read(f"/testbed/{path}").decode() for path in wanted}
    lines = {path: coverage.lines[path] for path in wanted}
    return Released(statuses=run.statuses, coverage=Coverage(tests=coverage.tests, lines=lines), files=texts)


def try_bug(sandbox: Sandbox, candidate: Candidate, source: str, command: str, seconds: int, max_failing: int) -> Run:
    """The candidate's tests with the bug in place; the file is as released again afterwards."""
    path = f"/testbed/{candidate.bug.path}"
    which = candidate.tests if len(candidate.tests) <= MOST_IDS else sorted({_file(test) for test in candidate.tests})
    sandbox.write(path, candidate.bug.inject(source).encode())
    run = run_tests(sandbox, f"{command} --maxfail={max_failing + 1} {shlex.join(which)}", seconds)
    sandbox.write(path, source.encode())
    return run


def found_by(run: Run, candidate: Candidate, released: Mapping[str, str], max_failing: int) -> Found | str:
    """What the bug does, or why it is of no use. `released`: statuses without the bug.

    Only tests that run the bug's line were run; the others pass as they did.
    """
    if run.exit_code == 0:
        return "no test fails"
    if run.exit_code != 1:
        return f"the tests do not run to their end ({run.exit_code})"
    passing = [test for test, status in released.items() if status in logs.PASSING]
    due = {test.split()[0] for test in candidate.tests} & set(passing)
    failing = {test for test in due if run.statuses.get(test) in ("FAILED", "ERROR")}
    if len(failing) > max_failing:
        return "too many tests fail"
    if any(test not in run.statuses for test in due):
        return "tests are missing"
    if not failing:
        return "no test fails"
    files = {_file(test) for test in failing}
    kept = [test for test in passing if _file(test) in files and test not in failing]
    return Found(sorted(failing), sorted(kept), sorted(files))


def as_payload(found: Found | str) -> dict[str, Any]:
    """For the journal."""
    return {"why_not": found} if isinstance(found, str) else {"found": asdict(found)}


def from_payload(payload: dict[str, Any]) -> Found | str:
    return str(payload["why_not"]) if "why_not" in payload else Found(**payload["found"])


def _file(test: str) -> str:
    return test.split("::")[0]
