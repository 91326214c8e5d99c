"""Lines that test runners print, to put logs together from: of every format, with what breaks parsers."""

import random
from pathlib import Path

from swedag.grading.stored import END, START

STATUSES = ["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"]
TESTS = [
    "tests/test_a.py::test_b",
    "tests/test_a.py::TestC::test_d[1-x]",
    "tests/test_a.py::test_e[a b]",
    "tests/test_a.py::test_e[a c]",
    "tests/test_a.py::test_f[/x/y/z.py]",
    "tests/test_a.py::test_f[/other/z.py]",
    "tests/test_a.py::test_f[//x/y]",
    "tests/test_a.py::test_f[/x/*/y]",
    "tests/test_a.py::test_g[MouseButton.LEFT-MouseButton.RIGHT]",
    "tests/test_a.py::test_h[x - y]",
    "tests/test_a.py::test_i[5m]",
    "doc/a.rst::a.rst",
    "[100%]",
]
DJANGO_TESTS = ["test_a (app.tests.ATests)", "test_b (app.tests.ATests.test_b)", "A description of it [#12].", "test_c"]
OF_PYTEST = [
    *(f"{status} {test}" for status in STATUSES for test in TESTS),
    *(f"{status} {test} - assert 1 == 2 - really" for status in STATUSES for test in TESTS),
    *(f"{test} {status}" for status in STATUSES for test in TESTS),
    *(f"{test} {status} [ 50%]" for status in STATUSES for test in TESTS),
    *(f"\x1b[32m{status}\x1b[0m tests/test_a.py::\x1b[1mtest_b\x1b[0m" for status in STATUSES),
    *(f"tests/test_a.py::test_b \x1b[1;31m{status}\x1b[0m" for status in STATUSES),
    *STATUSES,
    *(f" {status} tests/test_a.py::test_b" for status in STATUSES),
    *(f"{status}: something else" for status in STATUSES),
    *(f"{status}\ttests/test_a.py::test_b\r" for status in STATUSES),
    "SKIPPED [2] tests/test_a.py:3: no network",
    "SKIPPED [1] tests/test_a.py::test_b: reason",
    "FAILED [ 50%] tests/test_a.py::test_b - boom",
    "ERROR    root:a.py:12 something was logged",
    "=== 3 passed, 1 failed in 0.12s ===",
    "Tests: 12",
    "",
]
OF_DJANGO = [
    *(
        f"{test} ... {end}"
        for test in DJANGO_TESTS
        for end in ("ok", "OK", " OK", "FAIL", "ERROR", "skipped 'why'", "")
    ),
    *(f"{heading}: {test}" for test in DJANGO_TESTS for heading in ("FAIL", "ERROR")),
    *(f"{test} ... expected failure" for test in DJANGO_TESTS),
    "FAIL:",
    "ok",
    "  ok (extra)",
    "okay then",
    "--version is equivalent to version ... ok",
    "Applying sites.0002_alter_domain_unique...test_no_migrations (a.B) ... ok",
    "test_x (a.B) ... Internal Server Error: /path/\nok",
    "test_x (a.B) ... Testing against Django installed in '/x' with 1 process\nFound 1 test (0 silenced).\nok",
    "test_x (a.B) ... System check identified no issues (0 silenced)\nok",
    "System check identified no issues (0 silenced).",
]
OF_SYMPY = [
    *(f"test_s{n} {end}" for n in range(3) for end in ("ok", "F", "E", "f", "s", "ok   [OK]", "F   [FAIL]")),
    "________________ sympy/core/tests/test_a.py:test_s1 ________________",
    "________________ sympy/core/tests/test_a.py:test_s1",
    '  File "/testbed/sympy/core/a.py", line 3, in test_s0',
    " a.py:12 in b ",
]
LINES = [*OF_PYTEST, *OF_DJANGO, *OF_SYMPY]
WORDS = [
    *STATUSES, *TESTS, *DJANGO_TESTS, " ", "\n", "\t", " - ", " ... ", "ok", "FAIL:", "ERROR:", " F", " E", " ok", "test_",
    "[", "]", "[2]", "[31m", "____", ".py:", "MouseButton.LEFT", " ... skipped", " ...  OK", "FAIL", "\x0b", "\x1c",
]  # fmt: skip


def fragments(paths: list[Path], chance: random.Random) -> list[str]:
    """Some lines of real logs, in groups of neighbours."""
    found = []
    for path in paths:
        lines = path.read_text(errors="replace").split("\n")
        for _ in range(20):
            start = chance.randrange(len(lines))
            found.append("\n".join(lines[start : start + chance.randint(1, 4)]))
    return found


def compose(pieces: list[str], chance: random.Random) -> str:
    """A log of a few pieces, some of them spoiled: a character less, a space more, joined to the next line."""
    log = ""
    for piece in chance.choices(pieces, k=chance.randint(1, 25)):
        if chance.random() < 0.1 and piece:
            at = chance.randrange(len(piece))
            piece = piece[:at] + chance.choice(["", " ", "\t", "[", "]", " - "]) + piece[at + 1 :]
        log += piece + ("\n" if chance.random() < 0.97 else "")
    return log


def harness_log(output: str, chance: random.Random) -> str:
    """The output of the tests as a harness stores it: marks, an exit code, now and then a mark of trouble or none."""
    form = chance.random()
    if form < 0.05:
        return f"{START}\n{output}"
    if form < 0.1:
        trouble = chance.choice(["Patch Apply Failed", "Reset Failed", "Tests Errored", "Tests Timed Out"])
        return f"{START}\n{output}\n{END}\n>>>>> {trouble}\n"
    if form < 0.15:
        return f"{output}\n{START}\n\n{END}\n"
    if form < 0.2:
        return f"{START}\n{output}\n{START}\nPASSED later\n{END}\n"
    exit_code = f">>>>> Test Exit Code: {chance.choice([0, 1, 2, -9])}\n" if form < 0.7 else ""
    return f"+ : '{START}'\n{output}\n+ : '{END}'\n{exit_code}"
