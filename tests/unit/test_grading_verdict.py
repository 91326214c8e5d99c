"""The two rules, case by case: what a test run left, and what follows."""

from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swedag.grading import junit
from swedag.grading.canary import Canary, make_canary
from swedag.grading.verdict import Traces, Verdict, judge
from swedag.instances import Instance

F2P, P2P = "tests/test_a.py::test_fix", "tests/test_a.py::TestB::test_keep[1-x y]"
CANARY = Canary("tests/test_c.py", "", {"test_must_pass": "PASSED", "test_must_fail": "FAILED"})
GOOD_CANARY = {"tests/test_c.py::test_must_pass": "PASSED", "tests/test_c.py::test_must_fail": "FAILED"}
MUST_PASS, MUST_FAIL = GOOD_CANARY
UNCLEAR = {"with_canary": False}
INSTANCE = Instance(
    instance_id="x",
    repo="x",
    version="1",
    problem_statement="",
    patch="",
    FAIL_TO_PASS=[F2P],
    PASS_TO_PASS=["tests/test_a.py::TestB::test_keep[1-x"],
    environment="e",
    source="s",
    test_command="pytest -rA",
    test_files=["tests/test_a.py"],
)


def log_of(statuses: dict[str, str]) -> str:
    return "collected\n" + "".join(f"{status} {test}\n" for test, status in statuses.items())


def xml_of(statuses: dict[str, str]) -> str:
    children = {
        "PASSED": "",
        "FAILED": "<failure>x</failure>",
        "ERROR": "<error>x</error>",
        "SKIPPED": '<skipped type="pytest.skip">x</skipped>',
        "XFAIL": '<skipped type="pytest.xfail">x</skipped>',
    }
    cases = ""
    for test, status in statuses.items():
        path, bracket, rest = test.partition("[")
        *classes, name = ["", path] if "::" not in path else path.split("::")
        classname = ".".join([classes[0].removesuffix(".py").replace("/", "."), *classes[1:]])
        names = f"classname={quoteattr(classname)} name={quoteattr(name + bracket + rest)}"
        cases += f"<testcase {names}>{children[status]}</testcase>"
    return f"<testsuites><testsuite>{cases}</testsuite></testsuites>"


def verdict(
    log: dict[str, str], xml: dict[str, str] | str | None = "same", exit_code: int | None = 1, **more: Any
) -> Verdict:
    canary = more.pop("canary", CANARY)
    shown = log | (GOOD_CANARY if canary and more.pop("with_canary", True) else {})
    written = xml_of(shown) if xml == "same" else xml_of(xml) if isinstance(xml, dict) else xml
    traces = Traces(log_of(shown) + more.pop("extra", ""), exit_code, written, **more)
    return judge(INSTANCE, traces, canary)


BOTH = {F2P: "PASSED", P2P: "PASSED"}


@pytest.mark.parametrize(
    ("statuses", "outcome", "official"),
    [
        (BOTH, "resolved", True),
        (BOTH | {F2P: "XFAIL"}, "resolved", True),
        (BOTH | {P2P: "XFAIL"}, "resolved", True),
        (BOTH | {P2P: "SKIPPED"}, "resolved", True),
        (BOTH | {F2P: "SKIPPED"}, "unresolved", False),
        (BOTH | {F2P: "FAILED"}, "unresolved", False),
        (BOTH | {P2P: "FAILED"}, "unresolved", False),
        (BOTH | {P2P: "ERROR"}, "unresolved", False),
        ({F2P: "PASSED"}, "unresolved", False),
        ({}, "unresolved", False),
    ],
)
def test_the_rule(statuses: dict[str, str], outcome: str, official: bool) -> None:
    log = {test: status for test, status in statuses.items()}
    found = verdict(log)
    assert (found.outcome, found.official_resolved) == (outcome, official)
    assert found.resolved is (outcome == "resolved")
    assert set(found.tests) == {F2P, "tests/test_a.py::TestB::test_keep[1-x"}


@pytest.mark.parametrize(
    ("case", "arguments", "reason"),
    [
        ("canary flipped", {"log": BOTH | GOOD_CANARY | {MUST_FAIL: "PASSED"}} | UNCLEAR, "canary"),
        ("canary flipped in XML only", {"log": BOTH, "xml": BOTH | GOOD_CANARY | {MUST_FAIL: "PASSED"}}, "canary"),
        ("canary skipped", {"log": BOTH | GOOD_CANARY | {MUST_FAIL: "SKIPPED"}} | UNCLEAR, "canary"),
        ("canary did not run", {"log": BOTH} | UNCLEAR, "did not run"),
        ("early exit", {"log": BOTH, "xml": None, "exit_code": 0}, "ended with 0"),
        ("early exit without claims", {"log": {}, "xml": None, "exit_code": 0} | UNCLEAR, "ended with 0"),
        ("forged lines, then a crash", {"log": BOTH, "xml": None, "exit_code": 139}, "JUnit"),
        ("no exit code", {"log": BOTH, "exit_code": None}, "ended with None"),
        ("XML says failed", {"log": BOTH, "xml": BOTH | GOOD_CANARY | {F2P: "FAILED"}}, "disagree"),
        ("XML lacks the test", {"log": BOTH, "xml": {P2P: "PASSED"} | GOOD_CANARY}, "disagree"),
        ("XML is a bomb", {"log": BOTH, "xml": '<!DOCTYPE a [<!ENTITY b "c">]><a/>'}, "JUnit"),
        ("XML is broken", {"log": BOTH, "xml": "<testsuite>"}, "JUnit"),
        ("forged after a real failure", {"log": BOTH | {F2P: "FAILED"}, "extra": f"PASSED {F2P}\n"}, "disagree"),
        (
            "without canary, exit code 0 beside a failure",
            {"log": BOTH | {"other::t": "FAILED"}, "exit_code": 0, "canary": None},
            "although",
        ),
    ],
)
def test_tampering(case: str, arguments: dict[str, Any], reason: str) -> None:
    found = verdict(**arguments)
    assert (found.outcome, found.resolved) == ("tampered", False), case
    assert reason in found.reason


@pytest.mark.parametrize(
    ("case", "arguments", "outcome"),
    [
        ("collection error", {"log": {"tests/test_a.py": "ERROR"}, "exit_code": 2} | UNCLEAR, "unresolved"),
        ("crash", {"log": {}, "xml": None, "exit_code": 139}, "unresolved"),
        ("internal error", {"log": {}, "xml": None, "exit_code": 3} | UNCLEAR, "unresolved"),
        (
            "a broken fixture breaks the passing canary too",
            {"log": {F2P: "ERROR", P2P: "ERROR"} | GOOD_CANARY | {MUST_PASS: "ERROR"}} | UNCLEAR,
            "unresolved",
        ),
        ("without canary", {"log": BOTH, "canary": None, "exit_code": 0}, "resolved"),
        ("time out", {"log": BOTH, "timed_out": True, "exit_code": None}, "timeout"),
        ("no pytest", {"log": {}, "xml": None, "exit_code": 127}, "environment_failure"),
    ],
)
def test_honest_ends(case: str, arguments: dict[str, Any], outcome: str) -> None:
    assert verdict(**arguments).outcome == outcome, case


def test_an_error_in_teardown_is_no_forgery() -> None:
    """pytest prints both lines; the official parser keeps the last one, the XML the error."""
    statuses = BOTH | {F2P: "ERROR"}
    shown = {P2P: "PASSED"} | GOOD_CANARY
    log = f"ERROR {F2P}\n" + log_of(shown) + f"PASSED {F2P}\n"
    found = judge(INSTANCE, Traces(log, 1, xml_of(statuses | GOOD_CANARY)), CANARY)
    assert (found.outcome, found.official_resolved) == ("unresolved", True)


def test_a_run_that_ends_with_an_error_must_print_a_failure() -> None:
    """The harness's defence against printed PASSED lines (swebench 5), where no canary fails beside the tests."""
    found = verdict(BOTH, canary=None, exit_code=1)
    assert (found.outcome, found.official_resolved) == ("unresolved", False)
    assert found.reason == "the log tells of no failure, but the test run ended with 1"
    assert verdict(BOTH | {"other::t": "FAILED"}, canary=None, exit_code=1).official_resolved


def test_a_coloured_log_is_read_without_its_colours() -> None:
    coloured = "".join(f"\x1b[32m{status}\x1b[0m {test}\n" for test, status in (BOTH | GOOD_CANARY).items())
    found = judge(INSTANCE, Traces("ERROR logged by a test\n" + coloured, 1, xml_of(BOTH | GOOD_CANARY)), CANARY)
    assert (found.outcome, found.official_resolved) == ("resolved", True)


def test_no_verdict_has_no_value() -> None:
    found = verdict({}, None, 127)
    assert found.resolved is None
    assert found.official_resolved is None


def test_the_reason_counts_and_names_tests() -> None:
    found = verdict({F2P: "FAILED", P2P: "PASSED"})
    assert found.reason == f"1 of 1 FAIL_TO_PASS did not pass: {F2P} FAILED"


@pytest.mark.parametrize(
    ("test", "key"),
    [
        ("tests/test_a.py::test_b", "tests.test_a.test_b"),
        ("tests/test_a.py::TestC::test_b[1]", "tests.test_a.TestC.test_b[1]"),
        ("test_a.py::test_b[a/b.py::c]", "test_a.test_b[a/b.py::c]"),
        ("tests/test_a.py::test_b[x y]", "tests.test_a.test_b[x"),
        ("README.rst::README.rst", "README.rst.README.rst"),
    ],
)
def test_junit_keys(test: str, key: str) -> None:
    assert junit.key(test) == key


def test_junit_keeps_the_worst_of_one_name() -> None:
    xml = xml_of({"a.py::t[x 1]": "FAILED"}).replace("</testsuite>", "").replace("</testsuites>", "")
    xml += '<testcase classname="a" name="t[x 2]"/></testsuite></testsuites>'
    assert junit.statuses(xml) == {"a.t[x": "FAILED"}


@given(st.text(max_size=200))
def test_junit_never_raises(text: str) -> None:
    junit.statuses(text)
    junit.statuses(f"<testsuite><testcase name='{escape(text)}'/></testsuite>")


def test_canaries_are_new_each_time_and_runnable() -> None:
    first, second = make_canary(["pkg/tests/test_a.py", "b.py"]), make_canary([])
    assert first.path.startswith("pkg/tests/test_")
    assert "/" not in second.path
    assert not set(first.expected) & set(second.expected)
    namespace: dict[str, Any] = {}
    exec(first.source, namespace)
    for name, due in first.expected.items():
        if due == "PASSED":
            namespace[name]()
        else:
            with pytest.raises((AssertionError, ValueError)):
                namespace[name]()
