"""Statuses of tests from the log of a test run, and the status of one named test among them.

In: the log as text. Out: {test id: status}. The formats are in `swedag.grading.parsers`. Reading is the harness's own;
colour codes, which it cannot read, matter only where it finds nothing (`parse`).
"""

import re
from collections.abc import Collection, Mapping

from swedag.errors import SwedagError
from swedag.grading.parsers import PARSERS, REPOSITORIES, SAME_AS, Statuses, summary

PASSING = ("PASSED", "XFAIL")
MISSING = "MISSING"
COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def parse(log: str, parser: str, tests: Collection[str] = ()) -> Statuses:
    """Statuses by test id. `parser`: a name of `PARSERS`, or swebench's (`parse_log_django`).

    Line ends are those of any system. A log that tells of none of `tests` (or of nothing) is read again without its
    colour codes. An unknown parser is a SwedagError that names the known ones.
    """
    name = parser_named(parser)
    log = log.replace("\r\n", "\n").replace("\r", "\n")
    statuses = PARSERS[name](log)
    if _tells(statuses, tests) or "\x1b" not in log:
        return statuses
    colourless = PARSERS[name](without_colour(log))
    return colourless if _tells(colourless, tests) else statuses


def parser_named(name: str) -> str:
    """The key of `PARSERS` behind a name of ours or of swebench's."""
    short = name.removeprefix("parse_log_")
    found = SAME_AS.get(short, short)
    if found not in PARSERS:
        raise SwedagError(f"log_parser: {name!r} is unknown; known are {', '.join(PARSERS)}")
    return found


def parser_of(repository: str) -> str:
    """The parser of a repository (`django/django`, in any case) of SWE-bench or SWE-Gym."""
    found = REPOSITORIES.get(repository.lower())
    if not found:
        raise SwedagError(f"no log parser is known for repository {repository!r}; name one: {', '.join(PARSERS)}")
    return found


def status_of(test: str, statuses: Mapping[str, str]) -> str:
    """Status of a named test, or MISSING. Either name may be cut inside its parameters, as published lists are.

    A cut name counts for the tests that begin with it, if they agree on passing (swebench 5). A whole name with a
    space in its parameters also finds what a parser has cut there (ours: the harness never finds it).
    """
    if test in statuses:
        return statuses[test]
    if test.count("[") > test.count("]"):
        meant = [status for name, status in statuses.items() if name.startswith(test)]
        return meant[0] if meant and len({status in PASSING for status in meant}) == 1 else MISSING
    cut = test.partition(" ")[0]
    is_cut = test.endswith("]") and "::" in cut and cut.count("[") > cut.count("]")
    return statuses.get(cut, MISSING) if is_cut else MISSING


def all_of(log: str) -> dict[str, set[str]]:
    """Every status that the log prints for each test, since a test that passed may fail in its teardown."""
    found: dict[str, set[str]] = {}
    for line in without_colour(log).split("\n"):
        if told := summary(line):
            found.setdefault(told[0], set()).add(told[1])
    return found


def without_colour(log: str) -> str:
    return COLOUR.sub("", log)


def _tells(statuses: Statuses, tests: Collection[str]) -> bool:
    return any(status_of(test, statuses) != MISSING for test in tests) if tests else bool(statuses)
