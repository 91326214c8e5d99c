"""From the traces of one test run to a verdict: the official rule, and the rule with our defences. Pure.

Official (swebench 5): resolved if every FAIL_TO_PASS and PASS_TO_PASS test is PASSED or XFAIL in the printed log; an
absent test failed; a PASS_TO_PASS test may be SKIPPED; a run that ends with an error must print a failure. (SWE-Gym's
fork lets FAIL_TO_PASS tests be skipped too, and does not know the exit code.) With defences, also: the JUnit XML, the
exit code and the canary tests must tell the same story as the log.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from swedag.grades import Outcome
from swedag.grading import junit, logs
from swedag.grading.canary import Canary
from swedag.instances import Instance

NOT_RUNNABLE = {126, 127}


@dataclass(frozen=True)
class Traces:
    """What one run of the tests left: the printed log, pytest's exit code (None: lost), JUnit XML (None: absent)."""

    log: str
    exit_code: int | None
    xml: str | None = None
    timed_out: bool = False


class Verdict(BaseModel):
    """A grade without the rollout it belongs to: fields as in `swedag.grades.Grade`. `seconds` is wall time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    resolved: bool | None
    official_resolved: bool | None
    reason: str = ""
    tests: dict[str, str] = {}
    log_tail: str = ""
    seconds: float = 0.0


def named(instance: Instance) -> list[str]:
    return [*instance.FAIL_TO_PASS, *instance.PASS_TO_PASS]


def test_report(instance: Instance, statuses: Mapping[str, str]) -> dict[str, str]:
    """Status of each named test; MISSING when the log does not tell."""
    return {test: logs.status_of(test, statuses) for test in named(instance)}


def succeeds(status: str, group: str) -> bool:
    """Whether a test of FAIL_TO_PASS or PASS_TO_PASS (`group`) with this status speaks for the patch."""
    return status in logs.PASSING or (group == "PASS_TO_PASS" and status == "SKIPPED")


def fails(status: str, group: str) -> bool:
    """Whether it speaks against the patch. What is no status (`PASSED:` of a log's own words) does neither."""
    return status in (logs.MISSING, "FAILED", "ERROR") or (group == "FAIL_TO_PASS" and status == "SKIPPED")


def official_rule(fail_to_pass: Sequence[str], pass_to_pass: Sequence[str], report: Mapping[str, str]) -> bool:
    """No named test fails."""
    return not any(fails(report[test], "FAIL_TO_PASS") for test in fail_to_pass) and not any(
        fails(report[test], "PASS_TO_PASS") for test in pass_to_pass
    )


def failure_unseen(statuses: Mapping[str, str], exit_code: int | None) -> bool:
    """The run ended with an error, yet its log has results and no failure among them: it is not to be believed."""
    return exit_code not in (None, 0) and bool(statuses) and not {"FAILED", "ERROR"} & set(statuses.values())


def unseen(exit_code: int | None) -> str:
    return f"the log tells of no failure, but the test run ended with {exit_code}"


def judge(instance: Instance, traces: Traces, canary: Canary | None) -> Verdict:
    """Both verdicts on one run. A run that says `resolved` by the log but cannot prove it is `tampered`."""
    statuses = logs.parse(traces.log, instance.log_parser, named(instance))
    report = test_report(instance, statuses)
    if traces.timed_out:
        return _verdict("timeout", False, False, "the tests ran out of time", report)
    if traces.exit_code in NOT_RUNNABLE:
        command = shlex.split(instance.test_command)[:1]
        return _verdict("environment_failure", None, None, f"the test command cannot be run: {command}", report)
    claimed = official_rule(instance.FAIL_TO_PASS, instance.PASS_TO_PASS, report)
    official = claimed and not failure_unseen(statuses, traces.exit_code)
    suspicions = suspicions_of(instance, traces, canary, report, claimed)
    if suspicions:
        return _verdict("tampered", False, official, "; ".join(suspicions), report)
    xml = junit.statuses(traces.xml) or {}
    doubts = [
        test for test in named(instance) if official and xml.get(junit.key(test)) not in (*logs.PASSING, "SKIPPED")
    ]
    resolved = official and not doubts
    reason = "" if resolved else explain(instance, report, doubts) or unseen(traces.exit_code)
    return _verdict("resolved" if resolved else "unresolved", resolved, official, reason, report)


def suspicions_of(
    instance: Instance, traces: Traces, canary: Canary | None, report: Mapping[str, str], claimed: bool
) -> list[str]:
    """What no honest patch can leave behind. `claimed`: the log says resolved, so all witnesses are needed."""
    suspicions = []
    xml = junit.statuses(traces.xml)
    if canary:
        in_log = canary.check(logs.parse(logs.without_colour(traces.log), "pytest"))
        in_xml = canary.check(xml or {})
        flipped = in_log[0] + in_xml[0]
        if flipped:
            suspicions.append(f"{len(flipped)} canary tests that must fail were {flipped[0]}")
        elif claimed and (in_log[1] or in_xml[1]):
            suspicions.append("the log says resolved but the canary tests did not run")
    failing = [name for name, status in (xml or {}).items() if status in ("FAILED", "ERROR")]
    if traces.exit_code == 0 and (canary or failing):
        suspicions.append("the test run ended with 0 although tests failed")
    if claimed and xml is None:
        suspicions.append("the log says resolved but the test run left no JUnit XML")
    if claimed and traces.exit_code not in (0, 1):
        suspicions.append(f"the log says resolved but the test run ended with {traces.exit_code}")
    if xml is not None:
        # An error in teardown is the one honest difference: the log then has a PASSED line as well as an ERROR line.
        also = logs.all_of(traces.log)
        liars = [
            test
            for test, status in report.items()
            if status in logs.PASSING
            and (other := xml.get(junit.key(test), logs.MISSING)) not in logs.PASSING
            and not (other == "ERROR" and "ERROR" in also.get(test.split()[0], ()))
        ]
        if liars:
            suspicions.append(f"log and JUnit XML disagree on {len(liars)} tests, {liars[0]!r} for one")
    return suspicions


def explain(instance: Instance, report: Mapping[str, str], doubts: Sequence[str]) -> str:
    """Counts of both lists and the first few tests that did not pass."""
    parts = []
    for name, tests in (("FAIL_TO_PASS", instance.FAIL_TO_PASS), ("PASS_TO_PASS", instance.PASS_TO_PASS)):
        failed = [test for test in tests if fails(report[test], name) or test in doubts]
        if failed:
            shown = ", ".join(f"{test} {report[test]}" for test in failed[:2])
            parts.append(f"{len(failed)} of {len(tests)} {name} did not pass: {shown}")
    return "; ".join(parts)


def _verdict(
    outcome: Outcome, resolved: bool | None, official: bool | None, reason: str, report: dict[str, str]
) -> Verdict:
    return Verdict(outcome=outcome, resolved=resolved, official_resolved=official, reason=reason, tests=report)
