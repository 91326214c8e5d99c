"""`swedag grade-log`: the official verdict on the log of a test run that somebody else made and kept.

In: the log, and the instance's row as SWE-bench, SWE-Gym or swedag writes it. Out: JSON with the status of every test
in the log, of every named test, and the verdict that swebench 5 (`get_eval_report`) gives on the same file. Nothing is
run, so of our two verdicts there is only the official one.

    swedag grade-log --log test_output.txt --instances rows.jsonl --instance django__django-11211
"""

import ast
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from swedag.artifacts import write_text
from swedag.errors import SwedagError
from swedag.grading import logs
from swedag.grading.parsers import PARSERS
from swedag.grading.verdict import fails, failure_unseen, official_rule, succeeds, unseen

StoredOutcome = Literal["resolved", "unresolved", "patch_failed", "timeout", "environment_failure"]
START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
EXIT_CODE = re.compile(r">>>>> Test Exit Code:\s*(-?\d+)")
# What a harness writes into the log when the tests could not be run, and the outcome that this is.
TROUBLES: dict[str, tuple[StoredOutcome, str]] = {
    ">>>>> Patch Apply Failed": ("patch_failed", "the patch did not apply"),
    ">>>>> Tests Timed Out": ("timeout", "the tests ran out of time"),
    ">>>>> Reset Failed": ("environment_failure", "the environment could not be reset"),
    ">>>>> Tests Errored": ("environment_failure", "the tests could not be run"),
}


class Row(BaseModel):
    """What grading needs of an instance. The lists of tests may be JSON, or JSON or Python in a string."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance_id: str
    repo: str = ""
    FAIL_TO_PASS: list[str]
    PASS_TO_PASS: list[str]
    log_parser: str | None = None
    eval_type: Literal["pass_and_fail"] | None = None

    @field_validator("FAIL_TO_PASS", "PASS_TO_PASS", mode="before")
    @classmethod
    def _unquote(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            try:
                return ast.literal_eval(value)
            except (ValueError, SyntaxError) as error:
                raise ValueError("neither a list nor a string that holds one") from error

    @property
    def repository(self) -> str:
        """`repo`, or what the id says: `django__django-11211`."""
        return self.repo or self.instance_id.rpartition("-")[0].replace("__", "/", 1)

    @property
    def tests(self) -> list[str]:
        return [*self.FAIL_TO_PASS, *self.PASS_TO_PASS]


class Split(BaseModel):
    """One group of named tests, as swebench's report splits it."""

    success: list[str]
    failure: list[str]


class StoredGrade(BaseModel):
    """`readable`: the log counts as a run of the tests; where not, every named test is MISSING (`reason` says why).

    `markers`: the harness's marks of where the output of the tests begins and ends are there. A log without any is read
    whole, which swebench does not do. `statuses` are all that the log tells, `tests` the named tests among them.
    """

    instance_id: str
    parser: str
    outcome: StoredOutcome
    resolved: bool
    readable: bool
    markers: bool
    exit_code: int | None = None
    reason: str = ""
    tests: dict[str, str]
    tests_status: dict[str, Split]
    statuses: dict[str, str] = Field(default_factory=dict)


def main(
    log: Annotated[Path, typer.Option(help="The log, as the harness or the test runner wrote it")],
    instances: Annotated[Path, typer.Option(help="Rows of instances: JSONL, or JSON with one row or a list")],
    instance: Annotated[str, typer.Option(help="instance_id; not needed where the file has one row")] = "",
    parser: Annotated[
        str,
        typer.Option(
            help=f"Log parser (default: the row's log_parser, else its repository's): {', '.join(PARSERS)}, or "
            "swebench's name such as parse_log_scikit; pytest_verbose reads `pytest -v` as SWE-smith does"
        ),
    ] = "",
    output: Annotated[Path | None, typer.Option(help="Where to write the JSON (default: standard output)")] = None,
) -> None:
    """Grade the stored log of a test run by the official rule."""
    text = grade_log(read_log(log), read_row(instances, instance), parser).model_dump_json(indent=2) + "\n"
    if output:
        write_text(output, text)
    else:
        typer.echo(text, nl=False)


def read_log(path: Path) -> str:
    """The text of a log; what is not UTF-8 in it is replaced."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SwedagError(f"{path}: cannot be read: {error.strerror}") from error


def read_row(path: Path, instance_id: str = "") -> Row:
    """The row of an instance, ids compared without regard to case; without an id, the only row."""
    rows = _rows(path)
    by_id = [(str(row.get("instance_id", "")), row) for row in rows]
    wanted = [row for name, row in by_id if not instance_id or name.lower() == instance_id.lower()]
    some = ", ".join(name for name, _ in by_id[:3])
    if not wanted:
        raise SwedagError(f"{path}: no instance {instance_id!r} among {len(rows)} rows, which begin with {some}")
    if len(wanted) > 1:
        raise SwedagError(f"{path}: {len(wanted)} rows fit; name one with --instance: {some}")
    try:
        return Row.model_validate(wanted[0])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SwedagError(f"{path}: {wanted[0].get('instance_id', 'row')}: {where}: {first['msg']}") from error


def _rows(path: Path) -> list[dict[str, Any]]:
    text = read_log(path)
    try:
        whole = json.loads(text)
        rows = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        rows = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise SwedagError(f"{path}, line {number}: not JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise SwedagError(f"{path}: holds no rows; expected one JSON object per line")
    return rows


def grade_log(log: str, row: Row, parser: str = "") -> StoredGrade:
    """The verdict on a log. SwedagError if the row names no test, or no parser is known for it."""
    if not row.tests:
        raise SwedagError(f"{row.instance_id}: FAIL_TO_PASS and PASS_TO_PASS are empty; there is nothing to judge by")
    chosen = parser or row.log_parser
    name = logs.parser_named(chosen) if chosen else logs.parser_of(row.repository)
    found = EXIT_CODE.search(log)
    exit_code = int(found[1]) if found else None
    markers = START in log and END in log
    statuses: dict[str, str] = {}
    outcome, reason = _trouble(log)
    if not reason:
        statuses = logs.parse(_output_of_tests(log), name, row.tests) or logs.parse(log, name, row.tests)
        if not statuses:
            reason = "the log has no result of any test"
        elif failure_unseen(statuses, exit_code):
            statuses, reason = {}, unseen(exit_code)
    tests = {test: logs.status_of(test, statuses) for test in row.tests}
    groups = {"FAIL_TO_PASS": row.FAIL_TO_PASS, "PASS_TO_PASS": row.PASS_TO_PASS}
    resolved = official_rule(row.FAIL_TO_PASS, row.PASS_TO_PASS, tests)
    return StoredGrade(
        instance_id=row.instance_id,
        parser=name,
        outcome="resolved" if resolved else outcome,
        resolved=resolved,
        readable=not reason,
        markers=markers,
        exit_code=exit_code,
        reason=reason,
        tests=tests,
        tests_status={group: _split(group, members, tests) for group, members in groups.items()},
        statuses=statuses,
    )


def _trouble(log: str) -> tuple[StoredOutcome, str]:
    """Why the log is no run of the tests, or ("unresolved", "")."""
    for mark, trouble in TROUBLES.items():
        if mark in log:
            return trouble
    if (START in log) != (END in log):
        return "unresolved", "the log is cut: of the marks around the output of the tests only one is there"
    return "unresolved", ""


def _output_of_tests(log: str) -> str:
    """What stands between the first two marks; everything where there are none."""
    return log.partition(START)[2].partition(START)[0].partition(END)[0] if START in log else log


def _split(group: str, members: list[str], tests: dict[str, str]) -> Split:
    success = [test for test in members if succeeds(tests[test], group)]
    return Split(success=success, failure=[test for test in members if fails(tests[test], group)])
