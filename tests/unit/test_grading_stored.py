"""`swedag grade-log`: rows in every form that they are published in, logs as harnesses store them, and clear errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from swedag.errors import SwedagError
from swedag.grading import stored
from swedag.grading.stored import END, START, Row, grade_log, read_row

LOGS = Path(__file__).parents[1] / "data" / "logs"
ROW = Row(instance_id="a__b-1", repo="pallets/flask", FAIL_TO_PASS=["a.py::f"], PASS_TO_PASS=["a.py::p"])
GOOD = "PASSED a.py::f\nXFAIL a.py::p - known\n"


def marked(output: str, end: str = "") -> str:
    return f"Applied patch a.py cleanly.\nFAILED a.py::f\n+ : '{START}'\n{output}\n+ : '{END}'\n{end}"


@pytest.mark.parametrize(
    ("log", "outcome", "readable", "reason"),
    [
        (marked(GOOD), "resolved", True, ""),
        (GOOD, "resolved", True, ""),
        (marked(GOOD, ">>>>> Test Exit Code: 0"), "resolved", True, ""),
        (marked(GOOD + "SKIPPED [1] a.py:3: x"), "resolved", True, ""),
        (marked("PASSED a.py::f\nSKIPPED a.py::p"), "resolved", True, ""),
        (marked("SKIPPED a.py::f\nPASSED a.py::p"), "unresolved", True, ""),
        (marked("PASSED a.py::f"), "unresolved", True, ""),
        (marked(GOOD + "ERROR a.py::p - teardown"), "unresolved", True, ""),
        (marked(GOOD, ">>>>> Test Exit Code: 1"), "unresolved", False, "the test run ended with 1"),
        (marked(GOOD + "FAILED a.py::x", ">>>>> Test Exit Code: 1"), "resolved", True, ""),
        (marked("collected 0 items"), "unresolved", True, ""),  # the line before the marks is all that there is
        (f"{START}\n{END}", "unresolved", False, "no result of any test"),
        (f"{START}\n{GOOD}", "unresolved", False, "the log is cut"),
        (marked(GOOD, ">>>>> Tests Timed Out"), "timeout", False, "out of time"),
        (">>>>> Patch Apply Failed:\nerror: corrupt patch", "patch_failed", False, "did not apply"),
        (marked(GOOD, ">>>>> Reset Failed"), "environment_failure", False, "could not be reset"),
        (marked(GOOD, ">>>>> Tests Errored"), "environment_failure", False, "could not be run"),
        ("", "unresolved", False, "no result of any test"),
    ],
)
def test_outcomes(log: str, outcome: str, readable: bool, reason: str) -> None:
    found = grade_log(log, ROW)
    assert (found.outcome, found.resolved, found.readable) == (outcome, outcome == "resolved", readable)
    assert reason in found.reason
    assert set(found.tests) == {"a.py::f", "a.py::p"}
    if not readable:
        assert set(found.tests.values()) == {"MISSING"}


@pytest.mark.parametrize("form", [list, json.dumps, str])
def test_lists_of_tests_in_every_published_form(form: Any, tmp_path: Path) -> None:
    row = {"instance_id": "a", "FAIL_TO_PASS": form(["x's", "y"]), "PASS_TO_PASS": form([]), "patch": "ignored"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert read_row(tmp_path / "rows.jsonl").tests == ["x's", "y"]


def test_rows_as_one_json_or_as_lines(tmp_path: Path) -> None:
    rows = [{"instance_id": name, "FAIL_TO_PASS": [name], "PASS_TO_PASS": []} for name in ("A__a-1", "B__b-2")]
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("list.json", "lines.jsonl"):
        assert read_row(tmp_path / name, "b__b-2").FAIL_TO_PASS == ["B__b-2"]
        with pytest.raises(SwedagError, match="2 rows fit; name one with --instance: A__a-1, B__b-2"):
            read_row(tmp_path / name)
        with pytest.raises(SwedagError, match=f"{name}: no instance 'c' among 2 rows, which begin with A__a-1"):
            read_row(tmp_path / name, "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("[1]", "holds no rows"),
        ('{"a": 1}\n{', "line 2: not JSON"),
        ('{"instance_id": "a", "PASS_TO_PASS": []}', "a: FAIL_TO_PASS: Field required"),
        ('{"instance_id": "a", "FAIL_TO_PASS": "x y", "PASS_TO_PASS": []}', "FAIL_TO_PASS: .*neither a list nor"),
        (
            '{"instance_id": "a", "FAIL_TO_PASS": ["x"], "PASS_TO_PASS": [], "eval_type": "fail_only"}',
            "a: eval_type: Input should be 'pass_and_fail'",
        ),
    ],
)
def test_rows_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(SwedagError, match=message):
        read_row(tmp_path / "rows.jsonl")


def test_what_cannot_be_judged() -> None:
    with pytest.raises(SwedagError, match="a__b-1: FAIL_TO_PASS and PASS_TO_PASS are empty"):
        grade_log(GOOD, ROW.model_copy(update={"FAIL_TO_PASS": [], "PASS_TO_PASS": []}))
    with pytest.raises(SwedagError, match="no log parser is known for repository 'x/y'"):
        grade_log(GOOD, ROW.model_copy(update={"repo": "x/y"}))
    with pytest.raises(SwedagError, match="log_parser: 'parse_log_jest' is unknown; known are pytest"):
        grade_log(GOOD, ROW, "parse_log_jest")


def test_the_parser_is_the_option_then_the_rows_then_the_repositorys() -> None:
    row = ROW.model_copy(update={"log_parser": "parse_log_sphinx"})
    assert grade_log(GOOD, row, "seaborn").parser == "seaborn"
    assert grade_log(GOOD, row).parser == "pytest_v2"
    assert grade_log(GOOD, ROW).parser == "pytest"
    without = {"repo": "", "instance_id": "scikit-learn__scikit-learn-1"}
    assert grade_log(GOOD, ROW.model_copy(update=without)).parser == "pytest_v2"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = LOGS / "repositories" / "django__django.before.log"
    row = {
        "instance_id": "django__django-1",
        "repo": "django/django",
        "FAIL_TO_PASS": '["test_slugify (utils_tests.test_text.TestUtilsText.test_slugify)"]',
        "PASS_TO_PASS": '["test_wrap (utils_tests.test_text.TestUtilsText.test_wrap)"]',
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    stored.main(log=log, instances=tmp_path / "rows.jsonl")
    shown = json.loads(capsys.readouterr().out)
    stored.main(log=log, instances=tmp_path / "rows.jsonl", output=tmp_path / "grade.json")
    assert json.loads((tmp_path / "grade.json").read_text()) == shown
    assert (shown["outcome"], shown["parser"], shown["exit_code"], shown["markers"]) == (
        "unresolved",
        "django",
        1,
        True,
    )
    assert shown["tests_status"]["FAIL_TO_PASS"]["failure"] == json.loads(row["FAIL_TO_PASS"])
    assert shown["tests_status"]["PASS_TO_PASS"]["success"] == json.loads(row["PASS_TO_PASS"])
    with pytest.raises(SwedagError, match=r"absent.log: cannot be read: No such file"):
        stored.main(log=tmp_path / "absent.log", instances=tmp_path / "rows.jsonl")
