"""Published images from a real registry on loopback to a sandbox: moved tags, missing images, kills, many at once."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from swedag.artifacts import read_jsonl, sha256_file, write_jsonl
from swedag.datasets.step import in_image
from swedag.errors import SwedagError
from swedag.grading import gates
from swedag.grading.gate import LedgerRow, ledger_row
from swedag.grading.run import GradingSettings
from swedag.images import pull, slim
from swedag.images.instance import build_layer
from swedag.images.pull import RegistrySettings, convert, pull_instance, sif_of
from swedag.images.record import ImageRecord
from swedag.images.registry import parse, resolve
from swedag.instances import Instance, image_files
from swedag.releases import ReleasesSettings, instance_of
from swedag.rollouts.attempt import Job, Workplace
from swedag.sandbox import Limits, Sandbox
from swedag.scaffolds.protocol import Execute, ReadFile
from swedag.squashfs import squashfs_offset
from tests.integration.images import pytest_only_environment, released_source
from tests.integration.registry import Registry, running

pytestmark = pytest.mark.integration
INSTANCE = "Project-MONAI__MONAI-1"
REPOSITORY = "tests/sweb.eval.x86_64.project-monai_s_monai-1"


@dataclass(frozen=True)
class Published:
    """A registry with one image: an operating system with pytest below, a repository at /testbed above."""

    registry: Registry
    system: Path
    digest: str

    @property
    def settings(self) -> RegistrySettings:
        return RegistrySettings(
            source="registry", image=f"{self.registry.host}/tests/sweb.eval.x86_64.{{instance}}:latest"
        )

    def push(self, folder: Path, text: str, repository: str = REPOSITORY) -> str:
        return self.registry.push(repository, "latest", [self.system, repository_layer(folder, text)])


def repository_layer(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hello").write_text(text)
    with tarfile.open(folder / "layer.tar", "w") as tar:
        tar.add(folder / "hello", "testbed/hello")
    return folder / "layer.tar"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("registry")
    image, root, system = pytest_only_environment(), folder / "root", folder / "system.tar"
    quietly = ("unsquashfs", "-quiet", "-no-progress", "-no-xattrs")
    subprocess.run([*quietly, "-offset", squashfs_offset(image), "-dest", root, image], check=True)
    without = [f"--exclude=./{path}" for path in ("usr/share", "usr/lib/python3", "usr/bin/unsquashfs", "var", "dev")]
    subprocess.run(["tar", "-c", "-f", system, "-C", root, *without, "."], check=True)
    shutil.rmtree(root)
    with running(folder / "registry") as registry:
        made = Published(registry, system, "")
        yield Published(registry, system, made.push(folder / "first", "first\n"))


@dataclass(frozen=True)
class Fixed:
    """A real bug fix as an instance, and the layer of an image that has its repository at /testbed."""

    instance: Instance
    layer: Path


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Fixed:
    folder = tmp_path_factory.mktemp("fixed")
    older, newer = (released_source(f"pathspec=={version}") for version in ("0.12.0", "0.12.1"))
    settings = ReleasesSettings(kind="releases", environment="py311", pairs={"pathspec": ["0.12.0..0.12.1"]})
    row = instance_of("pathspec-0.12.0.to-0.12.1", settings, older, newer, pytest_only_environment())
    build_layer(older, "", folder / "layer.sqsh")
    subprocess.run(
        ["unsquashfs", "-quiet", "-no-progress", "-dest", folder / "root", folder / "layer.sqsh"], check=True
    )
    (folder / "root/etc").mkdir()
    (folder / "root/etc/of-this-image").write_text("its own\n")
    subprocess.run(["tar", "-c", "-f", folder / "layer.tar", "-C", folder / "root", "testbed", "etc"], check=True)
    activate = "export PATH=/opt/env/bin:$PATH"
    return Fixed(in_image(row, RegistrySettings(source="registry", activate=activate)), folder / "layer.tar")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


def test_published_image_becomes_a_sif_that_a_sandbox_runs_and_an_agent_works_in(
    published: Published, fixed: Fixed, images: Path
):
    said: list[str] = []
    record = pull_instance(INSTANCE, published.settings, images, said.append)
    assert (record.outcome, record.digest) == ("converted", published.digest)
    assert record.image == f"{published.registry.host}/{REPOSITORY}:latest"
    sif = images / record.file
    assert (record.sha256, record.bytes) == (sha256_file(sif), sif.stat().st_size)
    with Sandbox(images / "instances" / f"{INSTANCE}.sif", None) as sandbox:
        assert sandbox.run("cat /testbed/hello").output == "first\n"
        assert sandbox.run("echo changed >/testbed/hello && cat /testbed/hello").output == "changed\n"
    again = pull_instance(INSTANCE, published.settings, images, said.append)
    assert again == record and said == []
    row = fixed.instance.model_copy(update={"instance_id": INSTANCE})
    job = Job(row, 0, "policy", 1, *image_files(images, row))
    assert job.layer is None
    assert asyncio.run(read_and_write(job)) == ("first\n", "first\nmore\n")


async def read_and_write(job: Job) -> tuple[str, str]:
    """What an attempt finds in a file, before and after a command has changed it."""
    with ThreadPoolExecutor(1) as threads:
        workplace = Workplace(job, Limits(), threads)
        try:
            text = await workplace.read(ReadFile("hello"))
            return text, (await workplace.execute(Execute("echo more >>hello; cat hello", 10))).output
        finally:
            await workplace.close()


def test_missing_image_is_a_record(published: Published, images: Path):
    said: list[str] = []
    record = pull_instance("nobody__nothing-1", published.settings, images, said.append)
    assert (record.outcome, record.file, record.digest) == ("missing", "", "")
    assert "404, not found" in record.reason and record.reason in said[0]
    assert not (images / "instances/nobody__nothing-1.sif").exists()


def test_moved_tag_is_refused_or_renewed(published: Published, images: Path, tmp_path: Path):
    settings = published.settings
    moving = published.push(tmp_path / "a", "before\n", "tests/sweb.eval.x86_64.a_s_moving-1")
    assert pull_instance("a__moving-1", settings, images, print).digest == moving
    moved = published.push(tmp_path / "b", "after\n", "tests/sweb.eval.x86_64.a_s_moving-1")
    with pytest.raises(SwedagError, match=rf"the tag has moved: the ledger has {moving}, the registry now has {moved}"):
        pull_instance("a__moving-1", settings, images, print)
    with Sandbox(images / "instances/a__moving-1.sif", None) as sandbox:
        assert sandbox.run("cat /testbed/hello").output == "before\n"
    renewed = pull_instance("a__moving-1", settings.model_copy(update={"moved": "renew"}), images, print)
    assert (renewed.digest, renewed.moved_from) == (moved, moving)
    with Sandbox(images / "instances/a__moving-1.sif", None) as sandbox:
        assert sandbox.run("cat /testbed/hello").output == "after\n"
    assert pull_instance("a__moving-1", settings, images, print).moved_from == ""


def step(published: Published, images: Path, output: Path, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "swedag", "registry-image", "--instance", INSTANCE]
    settings = published.settings.model_dump_json()
    return subprocess.Popen([*command, "--settings", settings, "--images", images, "--output", output], **options)


def test_eight_at_once_do_one_conversion(published: Published, images: Path, tmp_path: Path):
    before = published.registry.downloads(published.system)
    outputs = [tmp_path / f"{number}.json" for number in range(8)]
    processes = [step(published, images, output) for output in outputs]
    assert [process.wait() for process in processes] == [0] * 8
    records = {output.read_text() for output in outputs}
    assert len(records) == 1 and json.loads(records.pop())["digest"] == published.digest
    assert published.registry.downloads(published.system) == before + 1
    assert sorted(path.suffix for path in (images / "oci").iterdir() if path.is_file()) == [".json", ".sif"]


def test_killed_conversion_leaves_nothing_believed(published: Published, images: Path, tmp_path: Path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    store, output = images / "oci", tmp_path / "out.json"
    process = step(published, images, output, start_new_session=True, env=os.environ | {"TMPDIR": str(scratch)})
    while not list(scratch.glob("swedag-*/tmp/*/*")):  # Apptainer has begun to unpack
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    sif = sif_of(store, published.digest)
    assert not sif.exists() and not sif.with_suffix(".json").exists() and not output.exists()
    assert sif.with_suffix(".lock").is_dir() and list(scratch.glob("swedag-*"))
    said: list[str] = []
    facts = convert(parse(published.settings.image_of(INSTANCE)), published.digest, store, said.append, dead_seconds=2)
    assert any("taken over" in message for message in said)
    assert facts.sha256 == sha256_file(sif)
    assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in store.iterdir()) == sorted([sif.name, sif.with_suffix(".json").name])


def test_half_written_sif_is_made_again(published: Published, images: Path):
    record = pull_instance(INSTANCE, published.settings, images, print)
    sif = images / record.file
    with sif.open("r+b") as stream:
        stream.truncate(record.bytes // 2)
    again = pull_instance(INSTANCE, published.settings, images, print)
    assert sif.stat().st_size == again.bytes and sha256_file(sif) == again.sha256


def test_credentials_come_from_environment_or_config_and_are_never_shown(
    published: Published, images: Path, tmp_path: Path, monkeypatch, capfd
):
    secret, users = (
        "a-secret-word",
        "reader:$2b$04$lLju1.Lk91.WCvfrJfxvQe9/EQBEQSR5pFkYmxUzukkAKvbzYjTYC\n",
    )  # bcrypt, as `htpasswd -B` writes it
    monkeypatch.setenv("HOME", str(tmp_path))
    said: list[str] = []
    with running(tmp_path / "registry", users, ("reader", secret)) as registry:
        closed = Published(registry, published.system, "")
        digest = closed.push(tmp_path / "a", "closed\n")
        refused = pull_instance(INSTANCE, closed.settings, images, said.append)
        assert refused.outcome == "missing" and "401, denied" in refused.reason
        with monkeypatch.context() as set_here:
            set_here.setenv("APPTAINER_DOCKER_USERNAME", "reader")
            set_here.setenv("APPTAINER_DOCKER_PASSWORD", secret)
            assert pull_instance(INSTANCE, closed.settings, images, said.append).digest == digest
        (tmp_path / ".docker").mkdir()
        auth = base64.b64encode(f"reader:{secret}".encode()).decode()
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        assert resolve(parse(closed.settings.image_of(INSTANCE)), said.append).digest == digest
    shown = capfd.readouterr()
    assert secret not in shown.out + shown.err + "".join(said)


def test_failed_conversion_is_tried_again_and_then_named(published: Published, images: Path, monkeypatch):
    monkeypatch.setattr(pull, "wait_random_exponential", lambda **_: lambda state: 0)
    said: list[str] = []
    reference = parse(published.settings.image_of(INSTANCE))
    nowhere = f"sha256:{'0' * 64}"
    with pytest.raises(SwedagError, match=rf"{REPOSITORY}:latest \({nowhere}\): `apptainer` ended"):
        convert(reference, nowhere, images / "oci", said.append)
    assert [message for message in said if "trying again" in message] == [
        f"{reference}: attempt {number} failed, trying again" for number in (1, 2)
    ]
    assert list((images / "oci").iterdir()) == []


def test_published_image_passes_its_gate_and_the_ledger_has_its_digest(
    published: Published, fixed: Fixed, images: Path
):
    row = fixed.instance
    digest = published.registry.push(
        f"tests/sweb.eval.x86_64.{row.instance_id}", "latest", [published.system, fixed.layer]
    )
    record = pull_instance(row.instance_id, published.settings, images, print)
    nobody = row.model_copy(update={"instance_id": "nobody__nothing-1"})
    write_jsonl(images / "i.jsonl", [row, nobody])
    write_jsonl(
        images / "records.jsonl", [record, pull_instance(nobody.instance_id, published.settings, images, print)]
    )
    options = {
        "instances": images / "i.jsonl",
        "records": images / "records.jsonl",
        "images": images,
        "settings": GradingSettings(timeout_seconds=60).model_dump_json(),
        "known": images / "work",
    }
    gates.main(**options, work=images / "work/a", output=images / "gates.jsonl")
    ledger, absent = read_jsonl(images / "gates.jsonl", LedgerRow)
    assert (absent.instance_id, absent.passed) == (nobody.instance_id, False)
    assert (ledger.passed, ledger.gold_outcome, ledger.empty_outcome) == (True, "resolved", "unresolved"), ledger.reason
    assert (ledger.oci_digest, ledger.layer_sha256) == (digest, record.sha256)
    assert ledger.bytes == record.bytes and ledger.inodes > 1000
    (images / record.file).write_bytes(b"something else")
    gates.main(**options, work=images / "work/b", output=images / "again.jsonl")  # what is known is not run again
    assert (images / "again.jsonl").read_text() == (images / "gates.jsonl").read_text()
    with pytest.raises(SwedagError, match="not the file that was converted"):
        ledger_row(row, images, GradingSettings(), record)


def test_missing_image_is_a_row_of_the_ledger(published: Published, fixed: Fixed, images: Path):
    row = fixed.instance.model_copy(update={"instance_id": "nobody__nothing-2"})
    record = pull_instance(row.instance_id, published.settings, images, print)
    ledger = ledger_row(row, images, GradingSettings(), record)
    assert (ledger.passed, ledger.gold_outcome, ledger.layer_sha256) == (False, "environment_failure", "")
    assert "404, not found" in ledger.reason and record.image in ledger.reason


def test_images_that_cannot_be_split_are_named(images: Path, tmp_path: Path):
    absent = images / "instances/nobody__nothing-4.sif"
    with pytest.raises(SwedagError, match=r"nobody__nothing-4\.sif: no such image"):
        slim.main([absent], images / "envs/shared.sif", images / "instances")
    missing = ImageRecord(instance_id="nobody__nothing-4", image="x", outcome="missing", reason="404")
    write_jsonl(tmp_path / "pulls.jsonl", [missing])
    with pytest.raises(SwedagError, match="environment shared: the registry has none of its 1 images"):
        slim.main([absent], images / "envs/shared.sif", images / "instances", [tmp_path / "pulls.jsonl"])


def test_slim_images_share_their_environment_and_grade_as_before(
    published: Published, fixed: Fixed, images: Path, tmp_path: Path
):
    pushed = {fixed.instance.instance_id: fixed.layer, "a__second-1": repository_layer(tmp_path / "second", "second\n")}
    for name, layer in pushed.items():
        repository = parse(published.settings.image_of(name)).repository
        published.registry.push(repository, "latest", [published.system, layer])
    names = [*pushed, "nobody__nothing-3"]
    pulls = [pull_instance(name, published.settings, images, print) for name in names]
    write_jsonl(tmp_path / "pulls.jsonl", pulls)
    environment = images / "envs/shared.sif"
    sifs = [images / "instances" / f"{name}.sif" for name in names]
    slim.main(sifs, environment, images / "instances", [tmp_path / "pulls.jsonl"])
    thin = [images / "instances" / f"{name}.sqsh" for name in pushed]
    assert environment.stat().st_size > 20e6 and all(path.stat().st_size < 0.5e6 for path in thin)
    row = fixed.instance.model_copy(update={"environment": "shared"})
    ledger = ledger_row(row, images, GradingSettings(timeout_seconds=60), pulls[0])
    assert ledger.passed, ledger.reason
    assert (ledger.oci_digest, ledger.layer_sha256) == (pulls[0].digest, sha256_file(thin[0]))
    with Sandbox(environment, thin[0]) as sandbox:
        assert sandbox.run("cat /etc/of-this-image").output == "its own\n"
        assert sandbox.run("command -v unsquashfs").output == "/usr/local/bin/unsquashfs\n"
    with Sandbox(environment, thin[1]) as sandbox:
        assert sandbox.run("cat /testbed/hello; ls /testbed /etc/of-this-image 2>&1").exit_code != 0
        assert sandbox.run("cat /testbed/hello").output == "second\n"
    with (
        pytest.raises(SwedagError, match="the system must be writable"),
        Sandbox(environment, thin[0], read_only_system=True),
    ):
        pass
