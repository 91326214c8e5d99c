import subprocess
import sys

import pytest

from swedag import training_sets
from swedag.cli import STEPS, list_options, spread


def swedag(*arguments):
    return subprocess.run([sys.executable, "-m", "swedag", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_explains_itself(step):
    done = swedag(step, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert len(done.stdout.splitlines()[3].strip()) > 20, "a sentence on what the step does"


def test_the_overview_names_every_step():
    done = swedag("--help")
    assert all(step in done.stdout for step in STEPS)


def test_an_unknown_step_is_an_error():
    assert swedag("rollout").returncode == 2


def test_several_values_may_follow_an_option_that_takes_a_list():
    arguments = ["FILE", "--a", "1", "2", "--b", "3", "4"]
    assert spread(arguments, {"--a"}) == ["FILE", "--a", "1", "--a", "2", "--b", "3", "4"]


def test_a_list_option_followed_by_nothing_is_an_empty_list():
    assert spread(["--a", "--b", "3", "--a"], {"--a"}) == ["--b", "3"]


def test_the_options_that_take_lists_are_found():
    assert list_options(training_sets.main) == {"--instances", "--rollouts", "--grades"}


def test_wrong_settings_are_a_message_not_a_traceback(tmp_path):
    done = swedag("fetch-wheels", "--settings", '{"requirement": []}', "--output", str(tmp_path / "x"))
    assert done.returncode == 1
    assert "requirement: Extra inputs are not permitted" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_a_message_not_a_traceback(tmp_path):
    done = swedag("metrics", str(tmp_path / "absent.csv"))
    assert done.returncode == 1
    assert "absent.csv" in done.stderr
    assert "Traceback" not in done.stderr
