"""Published images from a real registry on loopback to a sandbox: moved tags, missing images, kills, many at once."""

import base64
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from swedag.artifacts import sha256_file
from swedag.errors import SwedagError
from swedag.images import pull
from swedag.images.pull import RegistrySettings, convert, pull_instance, sif_of
from swedag.images.registry import parse, resolve
from swedag.sandbox import Sandbox
from swedag.sandbox.launch import default_scratch, unpacked
from tests.integration.images import operating_system
from tests.integration.registry import Registry, running

pytestmark = pytest.mark.integration
INSTANCE = "Project-MONAI__MONAI-1"
REPOSITORY = "tests/sweb.eval.x86_64.project-monai_s_monai-1"


@dataclass(frozen=True)
class Published:
    """A registry with one image: the tests' operating system below, a repository at /testbed above."""

    registry: Registry
    system: Path
    digest: str

    @property
    def settings(self) -> RegistrySettings:
        return RegistrySettings(image=f"{self.registry.host}/tests/sweb.eval.x86_64.{{instance}}:latest")

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
    root = unpacked(operating_system(), default_scratch())
    system = folder / "system.tar"
    without = [f"--exclude=./{path}" for path in ("usr/share", "usr/lib/python3", "var", "dev")]
    subprocess.run(["tar", "-c", "-f", system, "-C", root, *without, "."], check=True)
    with running(folder / "registry") as registry:
        made = Published(registry, system, "")
        yield Published(registry, system, made.push(folder / "first", "first\n"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


def test_published_image_becomes_a_sif_that_a_sandbox_runs(published: Published, images: Path):
    said: list[str] = []
    record = pull_instance(INSTANCE, published.settings, images, said.append)
    assert (record.outcome, record.digest) == ("converted", published.digest)
    assert record.image == f"{published.registry.host}/{REPOSITORY}:latest"
    sif = images / record.sif
    assert (record.sif_sha256, record.bytes) == (sha256_file(sif), sif.stat().st_size)
    with Sandbox(images / "instances" / f"{INSTANCE}.sif", None) as sandbox:
        assert sandbox.run("cat /testbed/hello").output == "first\n"
        assert sandbox.run("echo changed >/testbed/hello && cat /testbed/hello").output == "changed\n"
    again = pull_instance(INSTANCE, published.settings, images, said.append)
    assert again == record and said == []


def test_missing_image_is_a_record(published: Published, images: Path):
    said: list[str] = []
    record = pull_instance("nobody__nothing-1", published.settings, images, said.append)
    assert (record.outcome, record.sif, record.digest) == ("missing", "", "")
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
    sif = images / record.sif
    with sif.open("r+b") as stream:
        stream.truncate(record.bytes // 2)
    again = pull_instance(INSTANCE, published.settings, images, print)
    assert sif.stat().st_size == again.bytes and sha256_file(sif) == again.sif_sha256


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
