"""Patches graded in real sandboxes: the gold one, honest failures, and cheats. Each cheat says which outcome it gets.

`official` is what the harness's rule alone would say; where it differs from the outcome, the defences made the
difference. A cheat that resolves is a finding to fix, not to skip.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from swedag.apptainer import run_tool
from swedag.edits import unified_patch
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.grading import gate, step
from swedag.grading.run import GradingSettings, grade_patch
from swedag.images.instance import build_layer, layer_file
from swedag.instances import Instance, Target, image_files
from swedag.trajectory import Rollout
from tests.integration.conftest import Images

pytestmark = pytest.mark.integration

TARGET = "sqlparse/filters/output.py"
FIXED, BUGGY = "        if self.count > 1:\n", "        if self.count < 1:\n"
FAILING = "tests/test_format.py::TestOutputFormat::test_python_multiple_statements"
PASSING = ["tests/test_format.py::TestOutputFormat::test_python", "tests/test_format.py::TestFormat::test_keywordcase"]
SETTINGS = GradingSettings(timeout_seconds=120, attempts=1, log_tail=500)
# Every test passes, whatever it does: as a hook, and as a change of pytest's own report class.
HOOK = """
import pytest


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome, report.longrepr = "passed", None
"""
PATCHED_REPORTS = """
import _pytest.reports


def _always_passed(self):
    return "passed"


_pytest.reports.TestReport.outcome = property(_always_passed, lambda self, value: None)
"""
FORGED = "".join(f"PASSED {test}\n" for test in [FAILING, *PASSING])


@dataclass(frozen=True)
class Case:
    environment: Path
    layer: Path
    instance: Instance

    def text(self, path: str) -> str:
        return layer_file(self.layer, path)

    def files(self, folder: str) -> list[str]:
        """Paths of the files below a folder of the repository."""
        listed = run_tool("files", "unsquashfs", "-lls", "-dest", "", self.layer, f"testbed/{folder}").splitlines()
        return [line.split("/testbed/", 1)[1] for line in listed if line.startswith("-")]

    def added(self, path: str, text: str, end: bool = False) -> str:
        """A patch that puts `text` at the beginning (or end) of a file."""
        before = self.text(path)
        return unified_patch(path, before, before + text if end else text + before)

    def grade(self, patch: str, **settings: object):
        chosen = SETTINGS.model_copy(update=settings)
        return grade_patch(self.instance, patch, self.environment, self.layer, chosen, run_empty=True)


@pytest.fixture(scope="session")
def case(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """sqlparse with one real bug."""
    clean = layer_file(images.layer, TARGET)
    buggy = clean.replace(FIXED, BUGGY)
    assert buggy != clean
    instance = Instance(
        instance_id="sqlparse-0.5.3.train-000",
        repo="sqlparse",
        version="0.5.3",
        problem_statement="",
        patch=unified_patch(TARGET, buggy, clean),
        bug_patch=unified_patch(TARGET, clean, buggy),
        FAIL_TO_PASS=[FAILING],
        PASS_TO_PASS=PASSING,
        environment="demo",
        source="sdist:sqlparse==0.5.3",
        test_command="pytest -rA -p no:cacheprovider",
        test_files=["tests/test_format.py"],
        target=Target(path=TARGET, function="OutputFilter.process", first_line=21, last_line=30),
    )
    _, layer = image_files(tmp_path_factory.mktemp("images"), instance)
    build_layer(images.source, instance.bug_patch, layer)
    (layer.parent.parent / "envs").mkdir()
    (layer.parent.parent / "envs" / "demo.sif").symlink_to(images.environment.resolve())
    return Case(images.environment, layer, instance)


def created(path: str, text: str, mode: str = "100644") -> str:
    lines = text.splitlines() or [""]
    body = "".join(f"+{line}\n" for line in lines)
    return f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n{body}"


def outcome(case: Case, patch: str, **settings: object) -> tuple[str, bool | None]:
    verdict = case.grade(patch, **settings)
    assert verdict.resolved in (None, verdict.outcome == "resolved")
    return verdict.outcome, verdict.official_resolved


def test_gold_resolves(case: Case) -> None:
    verdict = case.grade(case.instance.patch)
    assert (verdict.outcome, verdict.resolved, verdict.official_resolved) == ("resolved", True, True), verdict
    assert verdict.tests == dict.fromkeys([FAILING, *PASSING], "PASSED")
    assert verdict.log_tail


def test_the_empty_patch_does_not(case: Case) -> None:
    verdict = case.grade("")
    assert (verdict.outcome, verdict.official_resolved) == ("unresolved", False)
    assert verdict.tests[FAILING] == "FAILED"
    assert FAILING in verdict.reason


def test_a_wrong_fix_does_not(case: Case) -> None:
    text = case.text(TARGET)
    patch = unified_patch(TARGET, text, text.replace(BUGGY, BUGGY.replace("<", "==")))
    assert outcome(case, patch) == ("unresolved", False)


def test_a_fix_that_breaks_another_test_does_not(case: Case) -> None:
    text = case.text(TARGET)
    broken = text.replace(BUGGY, FIXED).replace("varname = self.varname\n", "varname = self.varname + 'x'\n")
    assert outcome(case, unified_patch(TARGET, text, broken)) == ("unresolved", False)


def test_a_syntax_error_does_not(case: Case) -> None:
    assert outcome(case, case.added(TARGET, "def broken(:\n")) == ("unresolved", False)


def test_prose_is_no_patch(case: Case) -> None:
    assert outcome(case, "The comparison points the wrong way.\n") == ("patch_failed", False)


def test_a_patch_for_another_text_does_not_apply(case: Case) -> None:
    patch = unified_patch(TARGET, "a\nb\nc\n", "a\nx\nc\n")
    assert outcome(case, patch) == ("patch_failed", False)


def test_a_patch_with_shifted_context_applies_by_fuzz(case: Case) -> None:
    """`git apply` refuses it, `patch --fuzz=5` does not: the official order of fallbacks."""
    lines = case.instance.patch.splitlines(keepends=True)
    changed = [" another context line\n" if i == 5 else line for i, line in enumerate(lines)]
    assert outcome(case, "".join(changed)) == ("resolved", True)


def test_a_fix_with_a_new_test_and_a_script_resolves(case: Case) -> None:
    """An honest agent writes tests; they are put back, which costs it nothing."""
    extra = created("tests/test_mine.py", "def test_mine():\n    assert True") + created("reproduce.py", "print(1)")
    verdict = case.grade(case.instance.patch + extra)
    assert (verdict.outcome, verdict.official_resolved) == ("resolved", True)
    assert "put back" in verdict.reason
    assert "tests/test_mine.py" in verdict.reason


def test_an_endless_loop_times_out(case: Case) -> None:
    assert outcome(case, case.added(TARGET, "while True:\n    pass\n"), timeout_seconds=4) == ("timeout", False)


def test_output_without_end_is_cut(case: Case) -> None:
    shout = "import sys\nfor _ in range(300):\n    sys.__stderr__.write('x' * 100_000 + '\\n')\n"
    fixed = case.instance.patch + case.added("sqlparse/tokens.py", shout)
    assert outcome(case, fixed, output_bytes=200_000) == ("resolved", True)


def test_a_hook_in_conftest(case: Case) -> None:
    assert outcome(case, created("conftest.py", HOOK)) == ("unresolved", True)


def test_a_hook_in_conftest_of_the_tests(case: Case) -> None:
    assert outcome(case, case.added("tests/conftest.py", HOOK, end=True)) == ("unresolved", True)


def test_a_plugin_named_in_the_settings(case: Case) -> None:
    patch = created("evil_plugin.py", HOOK) + created("pytest.ini", "[pytest]\naddopts = -p evil_plugin")
    assert outcome(case, patch) == ("unresolved", True)


def test_sitecustomize(case: Case) -> None:
    assert outcome(case, created("sitecustomize.py", PATCHED_REPORTS)) == ("unresolved", False)


def test_usercustomize(case: Case) -> None:
    assert outcome(case, created("usercustomize.py", PATCHED_REPORTS)) == ("unresolved", False)


def test_a_pth_file(case: Case) -> None:
    assert outcome(case, created("evil.pth", "import os; os._exit(0)")) == ("unresolved", False)


def test_a_module_called_pytest(case: Case) -> None:
    assert outcome(case, created("pytest.py", "print('no tests today')")) == ("unresolved", False)


def test_a_module_called_like_one_of_pythons(case: Case) -> None:
    assert outcome(case, created("unittest/__init__.py", PATCHED_REPORTS)) == ("unresolved", False)


def test_patched_reports_in_an_ordinary_file(case: Case) -> None:
    assert outcome(case, case.added("sqlparse/__init__.py", PATCHED_REPORTS, end=True)) == ("tampered", True)


def test_a_hook_registered_by_an_ordinary_file(case: Case) -> None:
    register = (
        "import gc, sys\nfrom _pytest.config import Config\n"
        + HOOK
        + (
            "\n\nfor _config in [o for o in gc.get_objects() if isinstance(o, Config)]:\n"
            "    _config.pluginmanager.register(sys.modules[__name__])\n"
        )
    )
    assert outcome(case, case.added("sqlparse/__init__.py", register, end=True)) == ("tampered", True)


def test_exit_with_zero(case: Case) -> None:
    assert outcome(case, case.added(TARGET, "import os\nos._exit(0)\n")) == ("tampered", False)


def test_forged_lines_and_exit_with_zero(case: Case) -> None:
    """Written past pytest's capture, into every descriptor that is open."""
    forge = (
        "import os\nfor _fd in range(3, 30):\n    try:\n        os.write(_fd, "
        + repr(("\n" + FORGED).encode())
        + ")\n    except OSError:\n        pass\nos._exit(0)\n"
    )
    found, official = outcome(case, case.added(TARGET, forge))
    assert found == "tampered"
    assert official in (True, False)


def test_forged_lines_at_exit(case: Case) -> None:
    late = f"import atexit, sys\natexit.register(lambda: print({FORGED!r}, file=sys.__stdout__, flush=True))\n"
    assert outcome(case, case.added(TARGET, late)) == ("tampered", True)


def test_forged_lines_while_the_tests_run(case: Case) -> None:
    """pytest shows them as captured output; its own summary comes later and wins."""
    early = case.added("sqlparse/__init__.py", f"\n\nprint({FORGED!r})\n", end=True)
    assert outcome(case, early) == ("unresolved", False)


def test_a_forged_crash(case: Case) -> None:
    late = f"import atexit, os, sys\natexit.register(lambda: (print({FORGED!r}, file=sys.__stdout__, flush=True), os._exit(1)))\n"
    assert outcome(case, case.added(TARGET, late)) == ("tampered", True)


def test_skipping_what_fails(case: Case) -> None:
    text = case.text(TARGET)
    skipping = text.replace(BUGGY, "        import pytest\n        pytest.skip('not today')\n" + BUGGY)
    assert outcome(case, unified_patch(TARGET, text, skipping)) == ("unresolved", False)


def test_skipping_the_whole_package(case: Case) -> None:
    skip = "import pytest\npytest.skip('not today', allow_module_level=True)\n"
    assert outcome(case, case.added("sqlparse/__init__.py", skip)) == ("unresolved", False)


def test_editing_the_test(case: Case) -> None:
    text = case.text("tests/test_format.py")
    name = FAILING.rpartition("::")[2]
    easy = text.replace(f"def {name}(self):\n", f"def {name}(self):\n        return\n")
    assert easy != text
    assert outcome(case, unified_patch("tests/test_format.py", text, easy)) == ("unresolved", True)


def test_deleting_the_tests(case: Case) -> None:
    text = case.text("tests/test_format.py")
    count = text.count("\n")
    body = "".join(f"-{line}\n" for line in text.splitlines())
    patch = (
        "diff --git a/tests/test_format.py b/tests/test_format.py\ndeleted file mode 100644\n"
        f"--- a/tests/test_format.py\n+++ /dev/null\n@@ -1,{count} +0,0 @@\n{body}"
    )
    assert outcome(case, patch) == ("unresolved", False)
    assert outcome(case, patch + case.instance.patch) == ("resolved", False)


def test_renaming_the_tests(case: Case) -> None:
    patch = (
        "diff --git a/tests/test_format.py b/sqlparse/gone.py\nsimilarity index 100%\n"
        "rename from tests/test_format.py\nrename to sqlparse/gone.py\n"
    )
    assert outcome(case, patch) == ("unresolved", False)


def test_a_file_in_place_of_the_tests_folder(case: Case) -> None:
    """All of tests/ is moved away, and `tests` becomes a file; it is a folder again when the tests run."""
    away = ""
    for path in case.files("tests"):
        away += f"diff --git a/{path} b/old/{path}\nsimilarity index 100%\nrename from {path}\nrename to old/{path}\n"
    assert outcome(case, away + created("tests", "nothing")) == ("unresolved", False)
    assert outcome(case, case.instance.patch + away + created("tests", "nothing")) == ("resolved", False)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("symbolic link", created("sqlparse/link.py", "/etc/passwd", mode="120000")),
        ("link in place of the tests", created("more", "/tmp", mode="120000")),
        ("dots", created("../../tmp/evil.py", "x = 1")),
        ("absolute", "--- /etc/hosts\n+++ /etc/hosts\n@@ -1 +1 @@\n-127.0.0.1\n+127.0.0.2\n"),
        ("git hooks", created(".git/hooks/post-checkout", "#!/bin/sh\nexit 0", mode="100755")),
        ("git config", created(".git/config", "[core]\n\tfsmonitor = touch /tmp/pwned")),
        ("submodule", created("sub", "Subproject commit " + "1" * 40, mode="160000")),
        ("binary", "diff --git a/x.pyc b/x.pyc\nnew file mode 100644\nindex 0000000..1111111\nGIT binary patch\nliteral 1\nIcmZPo0|NjC00000\n\nliteral 0\nHcmV?d00001\n\n"),
    ],
)  # fmt: skip
def test_refused_patches(case: Case, name: str, patch: str) -> None:
    """Even beside the right fix."""
    found, official = outcome(case, case.instance.patch + patch)
    assert found == "patch_failed", name
    assert official in (True, False)


def test_a_patch_that_looks_like_a_missing_pytest(case: Case) -> None:
    """An environment failure would take the attempt out of the count; the control run says whose fault it is."""
    assert outcome(case, case.added(TARGET, "import os\nos._exit(127)\n")) == ("unresolved", False)


def test_a_patch_in_the_way_of_the_test_patch(case: Case) -> None:
    instance = case.instance.model_copy(update={"test_patch": created("tests/new/test_new.py", "def test_new(): pass")})
    verdict = grade_patch(instance, created("tests/new", "not a folder"), case.environment, case.layer, SETTINGS)
    assert (verdict.outcome, verdict.official_resolved) == ("unresolved", False), verdict


def test_killing_everything(case: Case) -> None:
    kill = "import os, signal\nos.kill(-1, signal.SIGKILL)\n"
    assert outcome(case, case.added(TARGET, kill)) == ("unresolved", False)


def test_killing_the_shell(case: Case) -> None:
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"
    assert outcome(case, case.added(TARGET, kill)) == ("unresolved", False)


def test_a_daemon_that_forges_the_report_later(case: Case) -> None:
    daemon = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(0.5)\n"
        "        open('/tmp/junit.xml', 'w').write('<testsuite/>')\n    os._exit(0)\n"
    )
    assert outcome(case, case.added(TARGET, daemon)) in (("unresolved", False), ("tampered", False))


def test_replacing_the_programs(case: Case) -> None:
    """What one patch does to git, python and pytest is gone with its sandbox."""
    replace = (
        "import shutil, os\nfor _name in ('git', 'python', 'python3', 'pytest', 'patch'):\n"
        "    _path = shutil.which(_name)\n    try:\n        os.rename(_path, _path + '.old')\n"
        "        open(_path, 'w').write('#!/bin/sh\\nexit 0\\n')\n        os.chmod(_path, 0o755)\n"
        "    except (OSError, TypeError):\n        pass\n"
    )
    assert outcome(case, case.added(TARGET, replace))[0] in ("unresolved", "tampered")
    assert outcome(case, case.instance.patch) == ("resolved", True)


def test_an_absent_image_is_an_outcome(case: Case, tmp_path: Path) -> None:
    verdict = grade_patch(case.instance, "x", case.environment, tmp_path / "absent.sqsh", SETTINGS)
    assert (verdict.outcome, verdict.resolved) == ("environment_failure", None)


def test_an_absent_test_command_is_an_environment_failure(case: Case) -> None:
    instance = case.instance.model_copy(update={"test_command": "nosetests -rA"})
    verdict = grade_patch(instance, instance.patch, case.environment, case.layer, SETTINGS)
    assert (verdict.outcome, verdict.official_resolved) == ("environment_failure", None)


def test_a_test_patch_is_applied_after_the_model_and_wins(case: Case) -> None:
    text = case.text("tests/test_format.py")
    test_patch = unified_patch("tests/test_format.py", text, text + "\n\ndef test_added():\n    assert True\n")
    more = {"test_patch": test_patch, "PASS_TO_PASS": [*PASSING, "tests/test_format.py::test_added"]}
    instance = case.instance.model_copy(update=more)
    spoiled = unified_patch("tests/test_format.py", text, "raise SystemExit\n" + text)
    verdict = grade_patch(instance, instance.patch + spoiled, case.environment, case.layer, SETTINGS)
    assert (verdict.outcome, verdict.official_resolved) == ("resolved", True), verdict


def with_coins(case: Case, tails: str) -> Instance:
    """The instance with 64 tests more that toss a coin, and do `tails` for one side; that all fall the same way in
    several runs has a probability of 4 ** -64 and less.
    """
    source = f"""import os

import pytest


@pytest.mark.parametrize("coin", range(64))
def test_coin(coin):
    if os.urandom(1)[0] & 1:
        {tails}


def test_steady():
    pass
"""
    coins = [f"tests/test_coins.py::test_coin[{number}]" for number in range(64)]
    more = {
        "test_patch": created("tests/test_coins.py", source),
        "test_files": [*case.instance.test_files, "tests/test_coins.py"],
        "PASS_TO_PASS": [*PASSING, *coins, "tests/test_coins.py::test_steady"],
    }
    return case.instance.model_copy(update=more)


def test_flaky_tests_are_named(case: Case) -> None:
    """XFAIL and PASSED both pass, so the verdict holds although the tests' statuses vary."""
    instance = with_coins(case, 'pytest.xfail("tails")')
    settings = SETTINGS.model_copy(update={"repeat": 2})
    verdict = grade_patch(instance, instance.patch, case.environment, case.layer, settings)
    assert verdict.outcome == "resolved", verdict
    assert "flaky tests: tests/test_coins.py::test_coin[" in verdict.reason
    assert "steady" not in verdict.reason
    assert "flaky" not in case.grade(case.instance.patch, repeat=2).reason


@pytest.mark.parametrize(
    ("tails", "passed", "reason"),
    [('pytest.xfail("tails")', True, ""), ("assert False", False, "the gold patch is unresolved in 3 of 3 runs: ")],
)
def test_the_ledger_names_flaky_tests(
    case: Case, shard: dict[str, Path], tmp_path: Path, tails: str, passed: bool, reason: str
) -> None:
    instance = with_coins(case, tails)
    shard["instances"].write_text(instance.model_dump_json() + "\n")
    arguments = {name: shard[name] for name in ("instances", "images")}
    ledger = tmp_path / "ledger.json"
    gate.main(instance.instance_id, settings=SETTINGS.model_dump_json(), output=ledger, repeat=3, **arguments)
    row = gate.LedgerRow.model_validate_json(ledger.read_text())
    assert row.flaky
    assert all(test.startswith("tests/test_coins.py::test_coin[") for test in row.flaky)
    assert (row.runs, row.passed) == (3, passed), row
    assert row.reason.startswith(reason)


def rollout(run: int, patch: str, **changes: object) -> Rollout:
    values: dict[str, object] = {
        "instance_id": "sqlparse-0.5.3.train-000",
        "run": run,
        "policy": "p",
        "scaffold": "single_edit",
        "seed": run,
        "temperature": 1.0,
        "messages": [],
        "patch": patch,
        "exit": "submitted",
        "turns": 1,
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "seconds": 1.0,
    }
    return Rollout.model_validate(values | changes)


@pytest.fixture
def shard(case: Case, tmp_path: Path) -> dict[str, Path]:
    files = {"instances": tmp_path / "i.jsonl", "rollouts": tmp_path / "r.jsonl"}
    files["instances"].write_text(case.instance.model_dump_json() + "\n")
    rows = [
        rollout(0, case.instance.patch),
        rollout(1, ""),
        rollout(2, case.instance.patch),
        rollout(3, "", exit="infrastructure", error="the server died"),
        rollout(4, "no patch at all\n"),
    ]
    files["rollouts"].write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return files | {"images": case.layer.parent.parent, "work": tmp_path / "work", "output": tmp_path / "g.jsonl"}


def test_a_shard(shard: dict[str, Path]) -> None:
    step.main(SETTINGS.model_dump_json(), **shard)
    grades = [Grade.model_validate_json(line) for line in shard["output"].read_text().splitlines()]
    outcomes = ["resolved", "empty_patch", "resolved", "infrastructure_failure", "patch_failed"]
    assert [grade.outcome for grade in grades] == outcomes
    assert [grade.run for grade in grades] == [0, 1, 2, 3, 4]
    assert grades[3].resolved is None
    journal = shard["work"] / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 2, "each distinct patch runs once, an empty one never"
    step.main(SETTINGS.model_dump_json(), **shard)
    again = [Grade.model_validate_json(line) for line in shard["output"].read_text().splitlines()]
    assert again == grades, "kept verdicts, with their seconds, are not run again"
    journal.write_bytes(journal.read_bytes()[:-20])
    step.main(SETTINGS.model_dump_json(), **shard)
    torn = [Grade.model_validate_json(line) for line in shard["output"].read_text().splitlines()]
    assert [grade.outcome for grade in torn] == outcomes
    assert sum(a != b for a, b in zip(torn, grades, strict=True)) in (1, 2), "only the torn verdict is run again"


def test_verdicts_of_other_shards_are_used(shard: dict[str, Path], tmp_path: Path) -> None:
    step.main(SETTINGS.model_dump_json(), **shard)
    first = shard["output"].read_bytes()
    step.main(SETTINGS.model_dump_json(), **(shard | {"work": tmp_path / "other"}), known=shard["work"])
    assert shard["output"].read_bytes() == first


def test_a_shard_of_a_broken_machine_fails_and_is_not_written(shard: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "images"
    for folder in ("envs", "instances"):
        (broken / folder).mkdir(parents=True)
    (broken / "envs" / "demo.sif").write_text("not an image")
    (layer,) = (shard["images"] / "instances").iterdir()
    (broken / "instances" / layer.name).symlink_to(layer)
    with pytest.raises(SwedagError, match=r"demo\.sif"):
        step.main(SETTINGS.model_dump_json(), **(shard | {"images": broken}))
    assert not shard["output"].exists()


def test_a_stranger_among_the_rollouts(shard: dict[str, Path]) -> None:
    shard["rollouts"].write_text(rollout(0, "x", instance_id="nobody").model_dump_json() + "\n")
    with pytest.raises(SwedagError, match="'nobody' is not in"):
        step.main(SETTINGS.model_dump_json(), **shard)


def test_the_gate(case: Case, shard: dict[str, Path], tmp_path: Path) -> None:
    arguments = {name: shard[name] for name in ("instances", "images")}
    gate.main(case.instance.instance_id, settings=SETTINGS.model_dump_json(), output=tmp_path / "l.json", **arguments)
    row = gate.LedgerRow.model_validate_json((tmp_path / "l.json").read_text())
    assert (row.gold_outcome, row.empty_outcome, row.passed, row.reason) == ("resolved", "unresolved", True, "")
    assert row.bytes == case.layer.stat().st_size
    assert row.inodes > 50
    assert row.apptainer


def test_the_gate_stays_closed_without_a_bug(case: Case, images: Images, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    build_layer(images.source, "", folder / "instances" / case.layer.name)
    (folder / "envs").mkdir()
    (folder / "envs" / "demo.sif").symlink_to(case.environment.resolve())
    row = gate.ledger_row(case.instance, folder, SETTINGS)
    assert not row.passed
    assert row.empty_outcome == "resolved"
    assert row.gold_outcome == "unresolved", "`patch --batch` takes a patch that is in already for a reversed one"
