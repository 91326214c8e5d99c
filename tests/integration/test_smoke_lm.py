"""A real pretrained chat model runs the real loops: SmolLM2 in each scaffold, commands in sandboxes, patches graded."""

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from swedag.artifacts import read_jsonl, write_jsonl
from swedag.edits import unified_patch
from swedag.grading.run import GradingSettings, grade_patch
from swedag.images.instance import build_layer
from swedag.instances import Instance, image_files
from swedag.rollouts import main
from swedag.trajectory import Rollout
from tests.conftest import ROOT
from tests.integration.images import pytest_only_environment, released_source
from tests.integration.models import instruct_model

pytestmark = pytest.mark.integration
# Package, file, a line as released, the same line with a bug, a test that notices.
BUGS = [
    (
        "xmltodict==0.14.2",
        "xmltodict.py",
        "        if item is None:\n            item = self",
        "        if item is not None:\n            item = self",
        "tests/test_xmltodict.py::XMLToDictTestCase::test_list",
    ),
    (
        "sqlparse==0.5.3",
        "sqlparse/filters/output.py",
        "        if self.count > 1:\n",
        "        if self.count < 1:\n",
        "tests/test_format.py::TestOutputFormat::test_python_multiple_statements",
    ),
]


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with instances.jsonl and images/, two real packages with a bug each."""
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "images/envs").mkdir(parents=True)
    (folder / "images/instances").mkdir()
    (folder / "images/envs/py311.sif").symlink_to(pytest_only_environment())
    rows = [_instance(folder, *bug) for bug in BUGS]
    write_jsonl(folder / "instances.jsonl", rows)
    return folder


def _instance(folder: Path, package: str, path: str, right: str, wrong: str, test: str) -> Instance:
    source = released_source(package)
    with tarfile.open(source) as archive:
        member = archive.extractfile(f"{package.replace('==', '-')}/{path}")
        assert member
        released = member.read().decode()
    assert right in released
    buggy = released.replace(right, wrong)
    row = Instance(
        instance_id=f"{package.replace('==', '-')}.eval-000",
        repo=package.split("==")[0],
        version=package.split("==")[1],
        problem_statement=f"A condition in `{path}` is the wrong way round; `{test}` fails.",
        patch=unified_patch(path, buggy, released),
        bug_patch=unified_patch(path, released, buggy),
        FAIL_TO_PASS=[test],
        PASS_TO_PASS=[],
        environment="py311",
        source=f"sdist:{package}",
        test_command="pytest -rA -p no:cacheprovider",
        test_files=[test.split("::")[0]],
    )
    build_layer(source, row.bug_patch, image_files(folder / "images", row)[1])
    return row


@pytest.mark.parametrize(("name", "calls"), [("smollm2-two", 4), ("smollm2-codeact", 4), ("smollm2-moatless", 12)])
def test_the_smoke_configs_model_and_scaffolds_run_to_valid_graded_trajectories(
    instances: Path, name: str, calls: int
) -> None:
    config = yaml.safe_load((ROOT / "config/smoke-lm.yaml").read_text())
    settings = config["rollouts"][name]["settings"]
    scaffold = settings["scaffold"]
    scaffold["max_transitions" if scaffold["kind"] == "moatless" else "max_turns"] = 4
    settings["max_tokens"] = 48
    main(
        settings=json.dumps(settings),
        policy="smollm2",
        model=instruct_model(),
        instances=instances / "instances.jsonl",
        images=instances / "images",
        first_run=0,
        last_run=0,
        work=instances / name,
        output=instances / f"{name}.jsonl",
    )
    rollouts = read_jsonl(instances / f"{name}.jsonl", Rollout)
    rows = {row.instance_id: row for row in read_jsonl(instances / "instances.jsonl", Instance)}
    assert [row.instance_id for row in rollouts] == sorted(rows)
    for rollout in rollouts:
        assert rollout.scaffold == scaffold["kind"]
        assert rollout.exit in ("submitted", "max_turns", "context", "stuck")
        assert 1 <= rollout.turns <= calls
        assert rollout.completion_tokens > 0
        assert [message.role for message in rollout.messages[:2]] == ["system", "user"]
        assert any(message.role == "assistant" for message in rollout.messages)
        verdict = grade_patch(
            rows[rollout.instance_id],
            rollout.patch,
            *image_files(instances / "images", rows[rollout.instance_id]),
            GradingSettings(timeout_seconds=60),
        )
        assert verdict.resolved is not None, verdict.reason
