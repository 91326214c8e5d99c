"""What each test runner prints, to {test id: status}: one function per format, and which repository prints which.

Semantics of swebench 5.0.2 (`PARSER_REGISTRY`), and for pydantic of SWE-Gym's fork (SWE-Gym/SWE-Bench-Package 16dd480),
both MIT; oddities that decide published verdicts are kept. `tests/unit/test_agreement.py` compares the two.
Statuses are PASSED, FAILED, ERROR, SKIPPED or XFAIL. A later line about a test overrules an earlier one.
"""

import re
from collections.abc import Callable, Iterator

Statuses = dict[str, str]
STATUSES = ("FAILED", "PASSED", "SKIPPED", "ERROR", "XFAIL")
ESCAPES = str.maketrans("", "", "".join(map(chr, range(1, 32))))
COLOUR_NUMBER = re.compile(r"\[\d+m")
SKIP_COUNT = re.compile(r"\[\d+\]$")
OPTION = re.compile(r"(.*?)\[(.*)\]")
PYDANTIC_NOTE = re.compile(r"FAILED\s*\[.*?\]")
VERBOSE = re.compile(r"^(\S+)[^\S\n]+(FAILED|PASSED|SKIPPED|ERROR|XFAIL)", re.MULTILINE)
SYMPY_HEADING = re.compile(r"_* (.*\.py:.*) _*")
DJANGO_PASSED = (" ... ok", " ... OK", " ...  OK")
DJANGO_FAILED = ((" ... FAIL", "FAIL:", "FAILED"), (" ... ERROR", "ERROR:", "ERROR"))
DJANGO_VERSION_TEST = "--version is equivalent to version"
DJANGO_MIGRATION = "Applying sites.0002_alter_domain_unique...test_no_migrations"
# Three messages of Django that may stand between a test's dots and its "ok".
DJANGO_INTERRUPTED = [
    re.compile(rf"^(.*?)\s\.\.\.\s{message}\nok$", re.MULTILINE)
    for message in (
        r"Testing against Django installed in [\s\S]*? silenced\)\.",
        r"Internal Server Error: /.*/",
        r"System check identified no issues \(0 silenced\)",
    )
]


def summary(line: str) -> tuple[str, str] | None:
    """(test, status) of a line of pytest's short summary, or None. The id ends at the first space."""
    if not line.startswith(STATUSES):
        return None
    if line.startswith("FAILED"):
        line = line.replace(" - ", " ")
    words = line.split()
    if len(words) < 2 or _names_no_test(words):
        return None
    return words[1], words[0]


def _names_no_test(words: list[str]) -> bool:
    """`SKIPPED [2] tests/test_a.py:3: reason` speaks of places, not of tests."""
    return words[0] == "SKIPPED" and SKIP_COUNT.match(words[1]) is not None


def _summaries(log: str) -> Iterator[tuple[str, str]]:
    return (found for line in log.split("\n") if (found := summary(line)))


def _pytest(log: str) -> Statuses:
    return dict(_summaries(log))


def _pytest_options(log: str) -> Statuses:
    """Parameters that are paths are reduced to their last component."""
    return {_without_folder(test): status for test, status in _summaries(log)}


def _without_folder(test: str) -> str:
    match = OPTION.search(test)
    if not match:
        return test
    main, option = match.groups()
    if option.startswith("/") and not option.startswith("//") and "*" not in option:
        option = "/" + option.rpartition("/")[2]
    return f"{main}[{option}]"


def _matplotlib(log: str) -> Statuses:
    """Mouse buttons by number, as older releases of Python printed them in parameters."""
    return _pytest(log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def _pytest_v2(log: str) -> Statuses:
    """Whole ids, and the status at either end of the line."""
    statuses: Statuses = {}
    for line in log.split("\n"):
        line = COLOUR_NUMBER.sub("", line).translate(ESCAPES)
        if line.startswith("FAILED"):
            line = line.partition(" - ")[0]
        words = line.split()
        if len(words) < 2:
            continue
        if line.startswith(STATUSES):
            if not _names_no_test(words):
                statuses[" ".join(words[1:])] = words[0]
        elif line.endswith(STATUSES):
            statuses[" ".join(words[:-1])] = words[-1]
    return statuses


def _pytest_pydantic(log: str) -> Statuses:
    """Cut ids, the status at either end of the line, a bracketed note after FAILED removed (SWE-Gym's own)."""
    statuses: Statuses = {}
    for line in log.split("\n"):
        line = PYDANTIC_NOTE.sub("FAILED", COLOUR_NUMBER.sub("", line).translate(ESCAPES))
        words = line.split()
        if found := summary(line):
            statuses[found[0]] = found[1]
        elif len(words) > 1 and line.endswith(STATUSES) and not line.startswith(STATUSES):
            statuses[words[0]] = words[1]
    return statuses


def _pytest_verbose(log: str) -> Statuses:
    """`tests/test_a.py::test_b PASSED [ 50%]`, as `pytest -v` prints while it runs (SWE-smith's parser)."""
    return {match[1]: match[2] for match in VERBOSE.finditer(log)}


def _seaborn(log: str) -> Statuses:
    """Failures from the summary, passes from the summary or from `test PASSED [ 50%]`; nothing else counts."""
    statuses: Statuses = {}
    for line in log.split("\n"):
        words = line.split()
        if len(words) < 2:
            continue
        if line.startswith("FAILED"):
            statuses[words[1]] = "FAILED"
        elif " PASSED " in line:
            if words[1] == "PASSED":
                statuses[words[0]] = "PASSED"
        elif line.startswith("PASSED"):
            statuses[words[1]] = "PASSED"
    return statuses


def _sympy(log: str) -> Statuses:
    """`test_a ok`, `test_a F`, `test_a E`, and a heading `____ file.py:test_a ____` above each failure."""
    statuses: Statuses = dict.fromkeys(SYMPY_HEADING.findall(log), "FAILED")
    for line in map(str.strip, log.split("\n")):
        if line.startswith("test_"):
            for end, status in ((" E", "ERROR"), (" F", "FAILED"), (" ok", "PASSED")):
                if line.endswith(end):
                    statuses[line.split()[0]] = status
    return statuses


def _django(log: str) -> Statuses:
    """`test_a (module.Class) ... ok`, also where output of the test stands between the dots and the result."""
    statuses: Statuses = {}
    begun = None
    for line in map(str.strip, log.split("\n")):
        if DJANGO_VERSION_TEST in line:
            statuses[DJANGO_VERSION_TEST] = "PASSED"
        if " ... " in line:
            begun = line.partition(" ... ")[0]
        if ending := next(filter(line.endswith, DJANGO_PASSED), None):
            if line.startswith(DJANGO_MIGRATION):
                line = line.partition("...")[2].strip()
            statuses[line.removesuffix(ending)] = "PASSED"
        if " ... skipped" in line:
            statuses[line.partition(" ... skipped")[0]] = "SKIPPED"
        for ending, heading, status in DJANGO_FAILED:
            if line.endswith(ending):
                statuses[line.partition(ending)[0]] = status
            if line.startswith(heading) and len(line.split()) > 1:
                statuses[line.split()[1]] = status
        if line.startswith("ok") and begun is not None:
            statuses[begun] = "PASSED"
    for interrupted in DJANGO_INTERRUPTED:
        statuses.update({match[1]: "PASSED" for match in interrupted.finditer(log)})
    return statuses


PARSERS: dict[str, Callable[[str], Statuses]] = {
    "pytest": _pytest,
    "pytest_options": _pytest_options,
    "pytest_v2": _pytest_v2,
    "pytest_pydantic": _pytest_pydantic,
    "pytest_verbose": _pytest_verbose,
    "matplotlib": _matplotlib,
    "seaborn": _seaborn,
    "sympy": _sympy,
    "django": _django,
}

# swebench has a name per repository for some of them: `parse_log_scikit` is pytest_v2.
SAME_AS = {
    **dict.fromkeys(("astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff", "xarray"), "pytest"),
    **dict.fromkeys(("pydicom", "requests", "pylint"), "pytest_options"),
    **dict.fromkeys(("astropy", "scikit", "sphinx"), "pytest_v2"),
}

# Lower case. SWE-bench's test and development repositories, then SWE-Gym's.
REPOSITORIES = {
    "astropy/astropy": "pytest_v2",
    "django/django": "django",
    "marshmallow-code/marshmallow": "pytest",
    "matplotlib/matplotlib": "matplotlib",
    "mwaskom/seaborn": "seaborn",
    "pallets/flask": "pytest",
    "psf/requests": "pytest_options",
    "pvlib/pvlib-python": "pytest",
    "pydata/xarray": "pytest",
    "pydicom/pydicom": "pytest_options",
    "pylint-dev/astroid": "pytest",
    "pylint-dev/pylint": "pytest_options",
    "pytest-dev/pytest": "pytest",
    "pyvista/pyvista": "pytest",
    "scikit-learn/scikit-learn": "pytest_v2",
    "sphinx-doc/sphinx": "pytest_v2",
    "sqlfluff/sqlfluff": "pytest",
    "sympy/sympy": "sympy",
    "bokeh/bokeh": "pytest",
    "conan-io/conan": "pytest",
    "dask/dask": "pytest",
    "facebookresearch/hydra": "pytest",
    "getmoto/moto": "pytest",
    "hypothesisworks/hypothesis": "pytest",
    "iterative/dvc": "pytest",
    "mne-tools/mne-python": "pytest",
    "modin-project/modin": "pytest",
    "pandas-dev/pandas": "pytest",
    "project-monai/monai": "pytest",
    "pydantic/pydantic": "pytest_pydantic",
    "python/mypy": "pytest",
}
