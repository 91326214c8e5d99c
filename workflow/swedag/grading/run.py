"""One patch, one verdict: a fresh sandbox, the model's diff and nothing else, the named tests, both rules.

In: an instance, a diff, the environment image and the instance layer. Out: a `Verdict`. What the patch may not decide
about (tests, files that steer the runner) is put back before the tests run. A patch that touched such a file, or holds
what no honest patch holds, runs twice: as the official harness would run it, and with the defences.
"""

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from swedag.grading import patches
from swedag.grading.canary import Canary, make_canary
from swedag.grading.tree import COMMAND_SECONDS, GIT, apply_patch, put_back, tracked_files
from swedag.grading.verdict import Traces, Verdict, judge
from swedag.instances import Instance
from swedag.sandbox import Limits, Sandbox, SandboxError

JUNIT = "/tmp/junit.xml"


class GradingSettings(BaseModel):
    """How patches are tested. Bounds hold for each sandbox, that is for each patch."""

    model_config = ConfigDict(extra="forbid")

    timeout_seconds: int = Field(1800, ge=1, description="Wall time of one run of the tests, in seconds")
    workers: int = Field(
        2, ge=1, description="Patches tested at the same time by one job, one that starts or ends aside"
    )
    repeat: int = Field(
        1, ge=1, description="Runs of the tests per patch; the first decides, the others find flaky tests"
    )
    canary: bool = Field(True, description="Add tests with random names that must fail or pass, to notice tampering")
    memory_mb: int = Field(4096, ge=64, description="Memory of a sandbox, in MiB")
    processes: int = Field(256, ge=8, description="Processes of a sandbox")
    disk_mb: int = Field(1024, ge=16, description="What a sandbox may write, in MiB")
    output_bytes: int = Field(16_000_000, ge=10_000, description="Longest log that is kept; the middle is cut out")
    log_tail: int = Field(2000, ge=0, description="Characters of the end of the log kept in the grade")
    max_patch_bytes: int = Field(10_000_000, ge=1, description="A longer patch is refused")
    attempts: int = Field(2, ge=1, description="Sandboxes tried per patch when one cannot start or is lost")
    max_infrastructure_failures: float = Field(
        0.05, ge=0, le=1, description="Share of a job's patches that may end as infrastructure failures before it fails"
    )


class LostUnderPatchError(SandboxError):
    """The sandbox was lost, or could not be used, after the patch was in it."""


def grade_patch(
    instance: Instance,
    patch: str,
    environment: Path,
    layer: Path | None,
    settings: GradingSettings,
    *,
    run_empty: bool = False,
) -> Verdict:
    """The verdict on one patch. An empty patch is not run, unless `run_empty` (the gate of an image does)."""
    if patches.is_empty(patch) and not run_empty:
        return Verdict(outcome="empty_patch", resolved=False, official_resolved=False)
    absent = [str(path) for path in (environment, layer) if path and not path.is_file()]
    if absent:
        return _no_verdict("environment_failure", f"image absent: {', '.join(absent)}")
    started = time.monotonic()
    verdict = _with_retries(instance, patch, environment, layer, settings)
    if settings.repeat > 1 and verdict.resolved is not None:
        others = [_with_retries(instance, patch, environment, layer, settings) for _ in range(settings.repeat - 1)]
        verdict = _note_flaky(verdict, others)
    return verdict.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


def _with_retries(
    instance: Instance, patch: str, environment: Path, layer: Path | None, settings: GradingSettings
) -> Verdict:
    """The verdict of the first attempt that gives one. No patch escapes a verdict by breaking its sandbox."""
    errors: list[SandboxError | OSError] = []
    for _ in range(settings.attempts):
        try:
            verdict = _grade(instance, patch, environment, layer, settings)
            break
        except (SandboxError, OSError) as error:
            errors.append(error)
    else:
        verdict = _no_verdict("infrastructure_failure", str(errors[-1]))
        if not all(isinstance(error, LostUnderPatchError) for error in errors):
            return verdict
    if verdict.resolved is None and not patches.is_empty(patch):
        control = _with_retries(instance, "", environment, layer, settings)
        if control.resolved is not None:
            reason = f"{verdict.reason}; without the patch the tests can be run"
            return Verdict(outcome="unresolved", resolved=False, official_resolved=False, reason=reason)
    return verdict


@contextmanager
def _fresh(environment: Path, layer: Path | None, settings: GradingSettings) -> Iterator[Sandbox]:
    """A sandbox; what goes wrong once it has started may be the doing of what runs in it."""
    with Sandbox(environment, layer, _limits(settings)) as sandbox:
        try:
            yield sandbox
        except (SandboxError, OSError) as error:
            raise LostUnderPatchError(str(error)) from error


def _grade(instance: Instance, patch: str, environment: Path, layer: Path | None, settings: GradingSettings) -> Verdict:
    """One verdict in one sandbox, or in two when the rules have to be told apart."""
    inspection = patches.inspect(patch, settings.max_patch_bytes)
    with _fresh(environment, layer, settings) as sandbox:
        applied = apply_patch(sandbox, patch)
        if not applied.ok:
            reason = "; ".join(inspection.refusals) or "the patch does not apply"
            return Verdict(
                outcome="patch_failed",
                resolved=False,
                official_resolved=False,
                reason=reason,
                log_tail=_tail(applied.log, settings),
            )
        touched = sorted({*inspection.paths, *applied.paths})
        suspects = [path for path in touched if patches.is_protected(path, instance, new=True)]
        protected = _protected(sandbox, instance, suspects) if suspects else []
        if not protected and not inspection.refusals:
            return _run_and_judge(sandbox, instance, settings, defended=True)
        official = _run_and_judge(sandbox, instance, settings, defended=False).official_resolved
    if inspection.refusals:
        return Verdict(
            outcome="patch_failed",
            resolved=False,
            official_resolved=bool(official),
            reason=f"refused: {'; '.join(inspection.refusals)}",
        )
    with _fresh(environment, layer, settings) as sandbox:
        apply_patch(sandbox, patch)
        put_back(sandbox, protected)
        defended = _run_and_judge(sandbox, instance, settings, defended=True)
    note = f"put back before the tests: {', '.join(protected[:5])}{' …' if len(protected) > 5 else ''}"
    reason = f"{defended.reason}; {note}" if defended.reason else note
    by_the_harness = None if defended.resolved is None else bool(official)
    return defended.model_copy(update={"official_resolved": by_the_harness, "reason": reason})


def run_tests(sandbox: Sandbox, instance: Instance, timeout: float, canary: Canary | None) -> Traces:
    """Run the named tests, with JUnit XML beside the log."""
    if canary:
        sandbox.write(f"/testbed/{canary.path}", canary.source.encode())
    command = test_command(instance, canary)
    settings = "PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0"
    result = sandbox.run(f"( cd /testbed; export {settings}; {command} --junitxml={JUNIT} )", timeout)
    try:
        xml = sandbox.read(JUNIT).decode(errors="replace")
    except FileNotFoundError:
        xml = None
    return Traces(result.output, result.exit_code, xml, result.timed_out)


def _run_and_judge(sandbox: Sandbox, instance: Instance, settings: GradingSettings, *, defended: bool) -> Verdict:
    problem = add_test_patch(sandbox, instance)
    if problem:
        return _no_verdict("environment_failure", problem)
    selects_by_name = instance.test_command.rstrip().endswith("-k")  # then no file can be added to the command
    canary = make_canary(instance.test_files) if defended and settings.canary and not selects_by_name else None
    traces = run_tests(sandbox, instance, settings.timeout_seconds, canary)
    verdict = judge(instance, traces, canary)
    return verdict.model_copy(update={"log_tail": _tail(traces.log, settings)})


def add_test_patch(sandbox: Sandbox, instance: Instance) -> str:
    """Put the files of the test patch back, then apply it. What went wrong, or nothing."""
    if patches.is_empty(instance.test_patch):
        return ""
    put_back(sandbox, patches.test_patch_files(instance.test_patch))
    sandbox.write("/tmp/test.diff", instance.test_patch.encode())
    result = sandbox.run(f"cd /testbed && {GIT} apply -v /tmp/test.diff", COMMAND_SECONDS)
    return "" if result.exit_code == 0 else f"the test patch does not apply: {result.output[-300:]}"


def test_command(instance: Instance, canary: Canary | None) -> str:
    """The instance's command with its test files; a `-k` expression is widened so that it selects the canary."""
    command = instance.test_command
    if not canary:
        return f"{command} {shlex.join(instance.test_files)}"
    stem = Path(canary.path).stem
    command = re.sub(
        r"(\s-k[ =]?)(\"[^\"]*\"|'[^']*'|\S+)",
        lambda match: match[1] + shlex.quote(f"({match[2].strip(chr(34) + chr(39))}) or {stem}"),
        command,
    )
    return f"{command} {shlex.join([*instance.test_files, canary.path])}"


def _protected(sandbox: Sandbox, instance: Instance, suspects: list[str]) -> list[str]:
    """Those of the touched paths that have to be put back, now that it is known which of them are new."""
    tracked = tracked_files(sandbox, suspects)
    return patches.protected_of(((path, path not in tracked) for path in suspects), instance)


def _limits(settings: GradingSettings) -> Limits:
    return Limits(
        seconds=2 * settings.timeout_seconds + 4 * COMMAND_SECONDS,
        memory_mb=settings.memory_mb,
        processes=settings.processes,
        disk_mb=settings.disk_mb,
        output_bytes=settings.output_bytes,
    )


def _note_flaky(verdict: Verdict, others: list[Verdict]) -> Verdict:
    flaky = [test for test, status in verdict.tests.items() if any(o.tests.get(test) != status for o in others)]
    notes = [f"flaky tests: {', '.join(flaky[:5])} ({len(flaky)} in all)"] if flaky else []
    if any(other.outcome != verdict.outcome for other in others):
        notes.append(f"outcomes differ between runs: {', '.join([verdict.outcome, *(o.outcome for o in others)])}")
    return verdict.model_copy(update={"reason": "; ".join(filter(None, [verdict.reason, *notes]))})


def _no_verdict(outcome: str, reason: str) -> Verdict:
    return Verdict.model_validate({"outcome": outcome, "resolved": None, "official_resolved": None, "reason": reason})


def _tail(log: str, settings: GradingSettings) -> str:
    return log[-settings.log_tail :] if settings.log_tail else ""
