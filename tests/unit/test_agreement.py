"""Our reading and grading of logs against those of the installed `swebench` package, log by log and test by test.

`pytest tests/unit/test_agreement.py -s` prints what was compared and every kind of difference; docs/agreement.md says why
each is there. A difference of no kind fails the test.
"""

import importlib
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swedag.errors import SwedagError
from swedag.grading import logs
from swedag.grading.parsers import PARSERS, REPOSITORIES
from swedag.grading.stored import END, START, Row, grade_log, read_log
from tests.unit import printed

LOGS = Path(__file__).parents[1] / "data" / "logs"
COLOUR = "colour codes: swebench finds none of the tests, we read the log without them"
MARKED = f"+ : '{START}'\n{{}}\n+ : '{END}'\n"


def of_swebench(module: str) -> ModuleType:
    """A module of `swebench.harness` without the package's own `__init__`, which imports Docker's and Modal's clients."""
    if "swebench.harness" not in sys.modules:
        harness = ModuleType("swebench.harness")
        harness.__path__ = [str(Path(importlib.import_module("swebench").__file__ or "").parent / "harness")]
        sys.modules["swebench.harness"] = harness
    return importlib.import_module(f"swebench.harness.{module}")


GRADING = of_swebench("grading")
PYTHON = of_swebench("log_parsers.python")
SPEC = importlib.import_module("swebench.types").TestSpec
# What both can read: swebench's parser by the name of ours.
BOTH = {name: getattr(PYTHON, f"parse_log_{name}") for name in PARSERS if hasattr(PYTHON, f"parse_log_{name}")}


@dataclass
class Tally:
    """What was compared, and the differences by kind."""

    logs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    statuses: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    resolved: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    counted = Tally()
    yield counted
    for kind in counted.logs:
        if kind.startswith(("real", "gold")):
            assert 0 < counted.resolved[kind] < counted.verdicts[kind], f"{kind}: one verdict only"
    print(f"\n\n{'compared with swebench 5':<44}{'logs':>8}{'statuses':>10}{'verdicts':>10}{'resolved':>10}")
    for kind in counted.logs:
        print(
            f"{kind:<44}{len(counted.logs[kind]):>8}{counted.statuses[kind]:>10}{counted.verdicts[kind]:>10}{counted.resolved[kind]:>10}"
        )
    print("differences" if counted.differences else "no difference")
    for kind, number in counted.differences.items():
        print(f"{number:>8}  {kind}")


def statuses_of_swebench(parser: str, log: str) -> dict[str, str] | None:
    """None where swebench cannot read the log: its parsers stop at a line that they did not expect."""
    try:
        return BOTH[parser](log, None)
    except IndexError:
        return None


def report_of_swebench(row: Row, parser: str, path: Path) -> dict[str, Any]:
    spec = SPEC(
        row.instance_id,
        "",
        [],
        row.repo,
        "",
        row.FAIL_TO_PASS,
        row.PASS_TO_PASS,
        f"parse_log_{parser}",
        "pass_and_fail",
    )
    prediction = {"instance_id": row.instance_id, "model_patch": "diff", "model_name_or_path": "x"}
    return GRADING.get_eval_report(spec, prediction, str(path), include_tests_status=True)[row.instance_id]


def compare(tally: Tally, kind: str, log: str, row: Row, parser: str, path: Path) -> None:
    """One log, one instance, one parser: every status that the log tells, both lists, and the verdict."""
    path.write_text(log)
    theirs = report_of_swebench(row, parser, path)
    ours = grade_log(read_log(path), row, parser)
    told, found = GRADING.get_logs_eval(SPEC("", "", [], "", "", [], [], f"parse_log_{parser}"), str(path))
    tally.logs[kind].add(log)
    tally.statuses[kind] += len(told)
    tally.verdicts[kind] += 1
    tally.resolved[kind] += theirs["resolved"]
    if not ours.markers and ours.readable:
        assert not found
        tally.differences["no marks around the output of the tests: swebench does not read the log, we do"] += 1
        return
    if ours.statuses != told and "\x1b" in log:
        assert {logs.status_of(test, told) for test in row.tests} == {logs.MISSING}
        tally.differences[COLOUR] += 1
        return
    assert ours.statuses == told
    assert ours.resolved is theirs["resolved"]
    if found and not told:
        assert GRADING.SUITE_RAN.search(log)
        tally.differences["no status, but a JavaScript runner's words: a run for swebench, unreadable for us"] += 1
        assert not ours.readable
    else:
        assert ours.readable is theirs["patch_successfully_applied"]
    if found:
        groups = {name: split.model_dump() for name, split in ours.tests_status.items()}
        assert groups == {name: theirs["tests_status"][name] for name in groups}


def row_of(fail_to_pass: list[str], pass_to_pass: list[str]) -> Row:
    return Row(instance_id="x__x-1", repo="", FAIL_TO_PASS=fail_to_pass, PASS_TO_PASS=pass_to_pass)


def real_logs() -> list[Path]:
    return sorted(path for path in LOGS.rglob("*") if path.suffix in (".log", ".txt"))


def cut_at_space(test: str) -> str:
    """As in the published lists, where that is done to pytest's names alone."""
    return test.partition(" ")[0] if "::" in test else test


def gold_of(statuses: dict[str, str]) -> Row:
    """An instance that the log resolves: its passing tests, one as FAIL_TO_PASS; skipped ones are in PASS_TO_PASS."""
    passing = [test for test, status in statuses.items() if status in logs.PASSING]
    skipped = [test for test, status in statuses.items() if status == "SKIPPED"]
    return row_of(passing[:1], [*passing[1:], *skipped])


def repository_of(path: Path) -> str:
    """`pallets__flask.xdist.after.log` and `conan-io__conan-13610.after.log` are of pallets/flask and conan-io/conan."""
    owner, _, name = path.name.partition("__")
    return f"{owner}/{re.split(r'[.]|-[0-9]', name)[0]}"


def pairs() -> list[Path]:
    """The logs with the gold patch that have a partner without it, and a parser of swebench."""
    after = [path for path in real_logs() if path.name.endswith(".after.log")]
    return [path for path in after if logs.parser_of(repository_of(path)) in BOTH]


@pytest.mark.parametrize("after", pairs(), ids=lambda path: path.name.removesuffix(".after.log"))
def test_before_and_after_the_gold_patch(after: Path, tally: Tally, tmp_path: Path) -> None:
    """Real pairs by their repository's parser: the instance is what the two logs make of it, names whole and cut."""
    repository = repository_of(after)
    parser = logs.parser_of(repository)
    before = after.with_name(after.name.replace(".after.", ".before."))
    told = {path: logs.parse(read_log(path), parser) for path in (before, after)}
    passing = [test for test, status in told[after].items() if status in logs.PASSING]
    fixed = [test for test in passing if told[before].get(test) not in logs.PASSING]
    kept = [test for test in passing if test not in fixed]
    assert fixed, "the pair shows no test that the patch mends"
    for row in (row_of(fixed, kept), row_of([*map(cut_at_space, fixed)], [*map(cut_at_space, kept)])):
        for path, resolved in ((before, False), (after, True)):
            log = read_log(path) if START in read_log(path) else MARKED.format(read_log(path))
            compare(tally, f"gold pairs, {repository}", log, row, parser, tmp_path / "log")
            assert grade_log(log, row, parser).resolved is resolved


@pytest.mark.parametrize("path", real_logs(), ids=lambda path: path.name)
def test_real_logs_by_every_parser(path: Path, tally: Tally, tmp_path: Path) -> None:
    """Each log by each parser, the fitting one among them; resolved, and not for each of several reasons."""
    log = read_log(path)
    for parser in BOTH:
        theirs = statuses_of_swebench(parser, log)
        if theirs is None:
            continue
        ours = logs.parse(log, parser)
        if ours != theirs:
            assert not theirs and "\x1b" in log, parser
            tally.differences[COLOUR] += 1
        whole = gold_of(theirs)
        if not whole.tests:
            continue
        failing = [test for test, status in theirs.items() if status in ("FAILED", "ERROR")]
        skipped = [test for test, status in theirs.items() if status == "SKIPPED"]
        for row in (
            whole,
            *(row_of([test], whole.tests) for test in failing[:1]),
            *(row_of([test], whole.tests) for test in skipped[:1]),
            row_of(*([cut_at_space(test) for test in tests] for tests in (whole.FAIL_TO_PASS, whole.PASS_TO_PASS))),
            row_of(["absent"], whole.tests),
            row_of(whole.tests[:1], ["absent"]),
        ):
            for shown in (log,) if START in log else (log, MARKED.format(log)):
                compare(tally, f"real logs, parser {parser}", shown, row, parser, tmp_path / "log")


@pytest.mark.parametrize("name", ["getmoto__moto.694ce1f4.pr_7331", "pydantic__pydantic.acb0f10f.pr_8316"])
def test_published_reports(name: str, tally: Tally, tmp_path: Path) -> None:
    """SWE-smith's reports, by its own format: the lists of its report, the log as it is."""
    report = json.loads((LOGS / f"{name}.report.json").read_text())
    groups = report["tests_status"]
    row = row_of(*([*groups[g]["success"], *groups[g]["failure"]] for g in ("FAIL_TO_PASS", "PASS_TO_PASS")))
    ours = grade_log(read_log(LOGS / f"{name}.test_output.txt"), row, "pytest_verbose")
    assert ours.resolved is report["resolved"]
    for group in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        assert ours.tests_status[group].model_dump() == groups[group]
    tally.logs["SWE-smith's own reports"].add(name)
    tally.statuses["SWE-smith's own reports"] += len(row.tests)
    tally.verdicts["SWE-smith's own reports"] += 1


@pytest.mark.parametrize("parser", sorted(BOTH))
def test_composed_logs(parser: str, tally: Tally, tmp_path: Path) -> None:
    """Logs put together from the lines that runners print, real lines and broken ones, from a fixed seed."""
    chance = random.Random(parser)
    own = {"django": printed.OF_DJANGO, "sympy": printed.OF_SYMPY}.get(parser, printed.OF_PYTEST)
    pieces = [*printed.LINES, *printed.fragments(real_logs(), chance), *own * (1000 // len(own))]
    for _ in range(150):
        log = printed.compose(pieces, chance)
        theirs = statuses_of_swebench(parser, log)
        if theirs is None:
            tally.differences["a heading without a test: swebench stops, we go on"] += 1
            logs.parse(log, parser)
            continue
        names = [*theirs, "absent", *map(cut_at_space, theirs), *(name[:-2] for name in theirs)]
        names = [name for name in names if name]
        chosen = chance.sample(names, min(len(names), chance.randint(1, 6)))
        row = row_of(chosen[:2], chosen[2:])
        compare(
            tally, f"composed logs, parser {parser}", printed.harness_log(log, chance), row, parser, tmp_path / "log"
        )


@settings(max_examples=300)
@given(st.sampled_from(sorted(BOTH)), st.lists(st.sampled_from(printed.WORDS) | st.text(max_size=5), max_size=30))
def test_no_text_tells_the_parsers_apart(parser: str, words: list[str]) -> None:
    log = "".join(words).replace("\r", "\n")
    theirs = statuses_of_swebench(parser, log)
    if theirs:
        assert logs.parse(log, parser) == theirs


def test_repositories_have_swebenchs_parsers() -> None:
    for repository, theirs in PYTHON.MAP_REPO_TO_PARSER_PY.items():
        assert BOTH[logs.parser_of(repository)] is theirs, repository
    assert set(REPOSITORIES.values()) <= set(PARSERS)


def test_swebenchs_names_of_parsers() -> None:
    registry = of_swebench("log_parsers").PARSER_REGISTRY
    python = {name for name, parser in registry.items() if parser.__module__.endswith(".python")}
    for name in python:
        assert BOTH[logs.parser_named(name)] is registry[name], name


def test_the_differences_one_by_one(tally: Tally, tmp_path: Path) -> None:
    """Every row of the table in docs/agreement.md that speaks of swebench 5."""
    path, row = tmp_path / "log", row_of(["a.py::t"], [])
    coloured = MARKED.format("\x1b[32mPASSED\x1b[0m a.py::t")
    for log, resolved in (("PASSED a.py::t", True), (coloured, True), (MARKED.format("12 passing"), False)):
        compare(tally, "differences one by one", log, row, "pytest", path)
        assert grade_log(log, row, "pytest").resolved is resolved
        assert report_of_swebench(row, "pytest", path)["resolved"] is False

    whole, statuses = "a.py::t[x y]", {"a.py::t[x": "PASSED"}
    assert not GRADING.test_passed(whole, statuses)
    assert logs.status_of(whole, statuses) == "PASSED"

    assert statuses_of_swebench("django", "FAIL:") is None
    assert logs.parse("FAIL:", "django") == {}

    path.write_bytes(MARKED.format("PASSED a.py::t").encode() + b"\xff")
    with pytest.raises(UnicodeDecodeError):
        report_of_swebench(row, "pytest", path)
    assert grade_log(read_log(path), row, "pytest").resolved

    path.write_text(MARKED.format("PASSED a.py::t"))
    assert report_of_swebench(row_of([], []), "pytest", path)["resolved"]
    with pytest.raises(SwedagError, match="are empty"):
        grade_log(read_log(path), row_of([], []), "pytest")
