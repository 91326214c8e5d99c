import re
import subprocess
import sys
from pathlib import Path

import pytest

from swedag.cli import STEPS
from swedag.source import PACKAGE, code


@pytest.mark.parametrize("module", sorted({name.removeprefix("swedag.") for name in STEPS.values()}))
def test_the_code_of_a_step_is_what_it_really_imports(module):
    """Compared with sys.modules of a fresh Python that imported the step; lazy imports may only add to it."""
    script = (
        f"import sys, swedag.{module}\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.startswith('swedag.') and m.__file__))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    really = {Path(line) for line in done.stdout.splitlines()}
    found = {Path(path).resolve() for path in code(module)}
    empty = {path for path in really - found if path.name == "__init__.py" and not path.read_text().strip()}
    assert really - found - empty == set()


def test_unrelated_steps_share_no_code():
    grading = set(code("grading.step"))
    assert any(path.endswith("grading/step.py") for path in grading)
    assert not any("figures" in path or "report" in path or "training" in path for path in grading)
    assert not any("grading" in path for path in code("rollouts") + code("training") + code("instances"))


def test_a_rule_does_not_depend_on_the_whole_config():
    rules = "".join(path.read_text() for path in (PACKAGE.parent.parent / "rules").glob("*.smk"))
    called = set(re.findall(r"python -m swedag ([a-z-]+)", rules))
    assert len(called) > 15
    for step in called:
        needed = code(STEPS[step].removeprefix("swedag."))
        assert not [path for path in needed if path.endswith("/config.py")], step


def test_the_package_lies_where_the_rules_look():
    assert PACKAGE.parts[-2:] == ("workflow", "swedag")
