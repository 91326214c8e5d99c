"""Parsers against real logs (tests/data/logs) and against the lines that decide verdicts."""

import json
from collections import Counter
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.grading import logs

LOGS = Path(__file__).parents[1] / "data" / "logs"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("conan-io__conan-13610.before", {"FAILED": 1, "PASSED": 1}),
        ("conan-io__conan-13610.after", {"PASSED": 2}),
        ("getmoto__moto-5876.before", {"FAILED": 1, "PASSED": 2}),
        ("getmoto__moto-5876.after", {"PASSED": 3}),
        ("getmoto__moto-6920.before", {"FAILED": 1, "PASSED": 7}),
        ("getmoto__moto-6920.after", {"PASSED": 8}),
        ("getmoto__moto-7365.before", {"FAILED": 1, "PASSED": 1}),
        ("getmoto__moto-7365.after", {"PASSED": 2}),
    ],
)
def test_own_runs(name: str, counts: dict[str, int]) -> None:
    statuses = logs.parse((LOGS / f"{name}.log").read_text(), "pytest")
    assert Counter(statuses.values()) == counts


@pytest.mark.parametrize("parser", ["pytest", "pytest_pydantic"])
@pytest.mark.parametrize(("name", "failed"), [("before", 1), ("after", 0)])
def test_pydantic_run(parser: str, name: str, failed: int) -> None:
    log = (LOGS / f"pydantic__pydantic-8316.{name}.log").read_text()
    statuses = logs.parse(log, parser)
    tests = {test: status for test, status in statuses.items() if "::" in test}
    assert Counter(tests.values())["FAILED"] == failed
    case = "tests/test_utils.py::test_camel2snake[CAMELToSnake-camel_to_snake]"
    assert logs.status_of(case, statuses) == ("FAILED" if failed else "PASSED")


@pytest.mark.parametrize("name", ["getmoto__moto.694ce1f4.pr_7331", "pydantic__pydantic.acb0f10f.pr_8316"])
def test_swesmith_evaluations_agree_with_their_reports(name: str) -> None:
    statuses = logs.parse((LOGS / f"{name}.test_output.txt").read_text(), "pytest_verbose")
    report = json.loads((LOGS / f"{name}.report.json").read_text())
    for kind in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        for outcome, passing in (("success", True), ("failure", False)):
            for test in report["tests_status"][kind][outcome]:
                assert (logs.status_of(test, statuses) in logs.PASSING) is passing, test


def test_swesmith_validation_pair() -> None:
    before = logs.parse((LOGS / "run_validation_test_output.txt").read_text(), "pytest_verbose")
    after = logs.parse((LOGS / "run_validation_test_output_pre_gold.txt").read_text(), "pytest_verbose")
    changed = [test for test in after if before[test] != after[test]]
    assert len(changed) == 2
    assert len(after) == 11


def test_moatless_log() -> None:
    log = (LOGS / "moatless_pytest_output_2.txt").read_text()
    counts = Counter(logs.parse(log, "pytest_options").values())
    assert counts == {"FAILED": 3, "PASSED": 59}
    path = "tests/lint/unittest_lint.py::test_analyze_explicit_script"
    assert logs.parse(log, "pytest_options")[path] == "FAILED"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("PASSED tests/test_a.py::test_b", {"tests/test_a.py::test_b": "PASSED"}),
        ("FAILED tests/test_a.py::test_b - assert 1 == 2", {"tests/test_a.py::test_b": "FAILED"}),
        ("FAILED tests/test_a.py::test_b[x - y]", {"tests/test_a.py::test_b[x": "FAILED"}),
        ("PASSED tests/test_a.py::test_b[a b]", {"tests/test_a.py::test_b[a": "PASSED"}),
        ("ERROR tests/test_a.py - ImportError", {"tests/test_a.py": "ERROR"}),
        ("XFAIL tests/test_a.py::test_b - reason", {"tests/test_a.py::test_b": "XFAIL"}),
        ("SKIPPED [2] tests/test_a.py:3: no network", {}),
        ("XPASS tests/test_a.py::test_b", {}),
        ("PASSED", {}),
        (" PASSED tests/test_a.py::test_b", {}),
        ("\x1b[32mPASSED\x1b[0m tests/test_a.py::\x1b[1mtest_b\x1b[0m", {"tests/test_a.py::test_b": "PASSED"}),
        ("\x1b[31mFAILED\x1b[0m a.py::\x1b[1mt\x1b[0m - x", {"a.py::t": "FAILED"}),
        ("", {}),
    ],
)
def test_plain_lines(line: str, expected: dict[str, str]) -> None:
    assert logs.parse(line, "pytest") == expected


@pytest.mark.parametrize(
    ("parser", "line", "expected"),
    [
        ("pytest_options", "PASSED a.py::t[/x/y/z.py]", {"a.py::t[/z.py]": "PASSED"}),
        ("pytest_options", "PASSED a.py::t[//x/y]", {"a.py::t[//x/y]": "PASSED"}),
        ("pytest_options", "PASSED a.py::t[plain]", {"a.py::t[plain]": "PASSED"}),
        ("pytest_v2", "a.py::t[x y] PASSED", {"a.py::t[x y]": "PASSED"}),
        ("pytest_v2", "FAILED a.py::t[x y] - boom", {"a.py::t[x y]": "FAILED"}),
        ("pytest_pydantic", "a.py::t PASSED", {"a.py::t": "PASSED"}),
        ("pytest_pydantic", "FAILED [ 50%] a.py::t - boom", {"a.py::t": "FAILED"}),
        ("pytest_pydantic", "all tests PASSED", {"all": "tests"}),
        ("pytest_pydantic", "PASSED", {}),
        ("pytest_verbose", "a.py::t PASSED   [ 10%]", {"a.py::t": "PASSED"}),
        ("matplotlib", "PASSED a.py::t[MouseButton.LEFT-MouseButton.RIGHT]", {"a.py::t[1-3]": "PASSED"}),
        ("seaborn", "a.py::t PASSED [ 50%]", {"a.py::t": "PASSED"}),
        ("seaborn", "ERROR a.py::t", {}),
        ("sympy", "test_a ok", {"test_a": "PASSED"}),
        ("sympy", "test_a ok    [OK]", {}),
        ("sympy", "test_a E", {"test_a": "ERROR"}),
        ("sympy", "____ sympy/core/tests/test_a.py:test_b ____", {"sympy/core/tests/test_a.py:test_b": "FAILED"}),
        ("django", "test_a (m.T) ... ok", {"test_a (m.T)": "PASSED"}),
        ("django", "test_a (m.T) ... skipped 'no'", {"test_a (m.T)": "SKIPPED"}),
        ("django", "test_a (m.T) ... printed by the test\nok", {"test_a (m.T)": "PASSED"}),
        ("django", "test_a (m.T) ... FAIL\nFAIL: test_a (m.T)", {"test_a (m.T)": "FAILED", "test_a": "FAILED"}),
        ("django", "FAIL:", {}),
        ("parse_log_scikit", "PASSED a.py::t[x y]", {"a.py::t[x y]": "PASSED"}),
    ],
)
def test_other_parsers(parser: str, line: str, expected: dict[str, str]) -> None:
    assert logs.parse(line, parser) == expected


def test_line_ends_of_any_system() -> None:
    assert logs.parse("PASSED a.py::t\r\nFAILED a.py::u\rok", "pytest") == {"a.py::t": "PASSED", "a.py::u": "FAILED"}


def test_colour_codes_matter_only_where_none_of_the_tests_is_found() -> None:
    log = "\x1b[32mPASSED\x1b[0m a.py::t\nERROR logged\n"
    assert logs.parse(log, "pytest") == {"logged": "ERROR"}
    assert logs.parse(log, "pytest", ["a.py::t"]) == {"a.py::t": "PASSED", "logged": "ERROR"}
    assert logs.parse(log, "pytest", ["a.py::u"]) == {"logged": "ERROR"}


def test_repositories_in_any_case() -> None:
    assert logs.parser_of("Project-MONAI/MONAI") == logs.parser_of("project-monai/monai") == "pytest"
    with pytest.raises(SwedagError, match="no log parser is known for repository 'a/b'; name one: pytest"):
        logs.parser_of("a/b")


def test_the_last_line_of_a_test_wins_and_all_are_kept_aside() -> None:
    log = "PASSED a.py::t\nERROR a.py::t - teardown\n"
    assert logs.parse(log, "pytest") == {"a.py::t": "ERROR"}
    assert logs.all_of(log) == {"a.py::t": {"PASSED", "ERROR"}}


@pytest.mark.parametrize(
    ("test", "statuses", "expected"),
    [
        ("a.py::t", {"a.py::t": "PASSED"}, "PASSED"),
        ("a.py::t[x y]", {"a.py::t[x": "PASSED"}, "PASSED"),
        ("a.py::t[x", {"a.py::t[x y]": "PASSED", "a.py::t[x z]": "XFAIL"}, "PASSED"),
        ("a.py::t[x", {"a.py::t[x y]": "PASSED", "a.py::t[x z]": "FAILED"}, "MISSING"),
        ("test_a (app.Tests)", {"test_a": "PASSED"}, "MISSING"),
        ("a.py::t", {"a.py::t2": "PASSED"}, "MISSING"),
        ("a.py::t[x]", {"a.py::t[x]2": "PASSED"}, "MISSING"),
        ("", {}, "MISSING"),
    ],
)
def test_status_of_cut_ids(test: str, statuses: dict[str, str], expected: str) -> None:
    assert logs.status_of(test, statuses) == expected


def test_unknown_parser_names_the_known_ones() -> None:
    with pytest.raises(SwedagError, match=r"'nose' is unknown; known are pytest"):
        logs.parse("", "nose")
