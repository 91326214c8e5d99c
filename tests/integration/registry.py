"""A real registry on loopback (Debian's docker-registry) and images pushed to it without Docker, layer by layer.

`make test` brings it where it can (envs/install-registry.sh); tests that need it are skipped where it is absent.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

PROGRAM = shutil.which("docker-registry")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Registry:
    """`host` as it stands in an image's name; `log` has a line per request."""

    host: str
    log: Path
    auth: tuple[str, str] | None = None

    def push(self, repository: str, tag: str, layers: list[Path]) -> str:
        """Push an image of these tars; its digest."""
        blobs = [(self._upload(repository, layer.read_bytes()), layer.stat().st_size) for layer in layers]
        config = json.dumps(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
                "os": "linux",
                "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in blobs]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": self._upload(repository, config), "size": len(config)},
                "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in blobs],
            }
        ).encode()
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        put = httpx.put(url, content=manifest, headers={"content-type": MANIFEST}, auth=self.auth)
        assert put.status_code == 201, put.text
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def downloads(self, layer: Path) -> int:
        """How often a layer was fetched."""
        digest = hashlib.sha256(layer.read_bytes()).hexdigest()
        return sum("GET /v2/" in line and f"blobs/sha256:{digest}" in line for line in self._requests())

    def requests(self, method: str, repository: str) -> int:
        return sum(f'"{method} /v2/{repository}/' in line for line in self._requests())

    def _requests(self) -> list[str]:
        """The access log, which is in Apache's format; the registry's own messages tell the same a second time."""
        return [line for line in self.log.read_text().splitlines() if '] "' in line and "HTTP/1." in line]

    def _upload(self, repository: str, blob: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        base = f"http://{self.host}/v2/{repository}/blobs"
        if httpx.head(f"{base}/{digest}", auth=self.auth).status_code == 200:
            return digest
        started = httpx.post(f"{base}/uploads/", auth=self.auth)
        assert started.status_code == 202, started.text
        put = httpx.put(
            httpx.URL(started.headers["location"]).copy_merge_params({"digest": digest}),
            content=blob,
            headers={"content-type": "application/octet-stream"},
            auth=self.auth,
            timeout=120,
        )
        assert put.status_code == 201, put.text
        return digest


@contextmanager
def running(folder: Path, users: str = "", auth: tuple[str, str] | None = None) -> Iterator[Registry]:
    """A registry that keeps its blobs in `folder`. `users` is the text of an htpasswd file, `auth` one of its users."""
    if PROGRAM is None:
        pytest.skip("docker-registry is absent: apt-get install --no-install-recommends docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    settings = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": host},
    }
    if users:
        (folder / "htpasswd").write_text(users)
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_for(host)
        yield Registry(host, folder / "log", auth)
    finally:
        process.terminate()
        process.wait()


@retry(retry=retry_if_exception_type(httpx.TransportError), wait=wait_fixed(0.05), stop=stop_after_delay(30))
def _wait_for(host: str) -> None:
    httpx.get(f"http://{host}/v2/")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
