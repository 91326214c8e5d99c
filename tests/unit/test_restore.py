import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from swedag.config import load
from swedag.errors import SwedagError
from swedag.restore import RestoreSettings, main

TEXT = b"instance_id,run,resolved\na,0,1\n"
DEMO = Path("config/demo.yaml")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def settings(source: object, data: bytes = TEXT) -> str:
    return RestoreSettings(source=str(source), sha256=sha256(data)).model_dump_json()


@pytest.fixture
def server() -> Iterator[str]:
    """Serves TEXT at /released (which a redirect leads to), and at /second from the second request on."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            first = asked.count(self.path) == 1
            statuses = {"/released": 200, "/moved": 302, "/second": 503 if first else 200, "/cut": 200}
            self.send_response(statuses.get(self.path, 404))
            if self.path == "/moved":
                self.send_header("Location", "/released")
            cut = self.path == "/cut" and first
            self.send_header("Content-Length", str(len(TEXT)))
            self.end_headers()
            self.wfile.write(TEXT[:5] if cut else TEXT)

        def log_message(self, *_: object) -> None: ...

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("path", ["released", "moved", "second", "cut"])
def test_a_release_behind_a_url_even_if_the_server_fails_once(server, path, tmp_path):
    main(settings(f"{server}/{path}"), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == TEXT


def test_a_release_on_this_machine(tmp_path):
    source = tmp_path / "a release.csv"
    source.write_bytes(TEXT)
    for name in (source, source.as_uri()):
        main(settings(name), tmp_path / "out.csv")
        assert (tmp_path / "out.csv").read_bytes() == TEXT
        (tmp_path / "out.csv").unlink()


def test_other_bytes_than_the_config_says_are_not_used(server, tmp_path):
    wrong = settings(f"{server}/released", b"something else")
    with pytest.raises(SwedagError, match=rf"sha256 is {sha256(TEXT)}, not {sha256(b'something else')}"):
        main(wrong, tmp_path / "out.csv")
    with pytest.raises(SwedagError, match="it is not used"):
        main(wrong, tmp_path / "folder", folder=True)
    assert list(tmp_path.iterdir()) == []


def archive(path: Path, names: list[str]) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(TEXT)
            tar.addfile(info, io.BytesIO(TEXT))
    return path.read_bytes()


@pytest.mark.parametrize(
    "names", [["config.json", "sub/model.safetensors"], ["ep5/config.json", "ep5/sub/model.safetensors"]]
)
def test_an_archive_becomes_a_folder(tmp_path, names):
    data = archive(tmp_path / "a.tar.gz", names)
    main(settings(tmp_path / "a.tar.gz", data), tmp_path / "checkpoint", folder=True)
    found = {path.relative_to(tmp_path / "checkpoint").as_posix() for path in (tmp_path / "checkpoint").rglob("*.*")}
    assert found == {"config.json", "sub/model.safetensors"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{server}/absent", "the server answers 404"),
        ("{tmp}/absent.csv", "cannot be read: No such file"),
        ("http://127.0.0.1:1/x", "could not be fetched in 5 attempts"),
    ],
)
def test_a_release_that_cannot_be_had(server, tmp_path, source, message, monkeypatch):
    monkeypatch.setattr("swedag.restore.wait_random_exponential", lambda **_: lambda _state: 0)
    with pytest.raises(SwedagError, match=message):
        main(settings(source.format(server=server, tmp=tmp_path)), tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_archives_that_reach_outside_or_are_none_are_refused(tmp_path):
    data = archive(tmp_path / "evil.tar.gz", ["../outside"])
    (tmp_path / "text.tar").write_bytes(TEXT)
    for source, its in ((tmp_path / "evil.tar.gz", data), (tmp_path / "text.tar", TEXT)):
        with pytest.raises(SwedagError, match="cannot be unpacked"):
            main(settings(source, its), tmp_path / "to/folder", folder=True)
    assert not (tmp_path / "to/outside").exists() and not (tmp_path / "to/folder").exists()


def test_archives_with_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
    source = tmp_path / "link.tar"
    with pytest.raises(SwedagError, match="'link' is not a file or folder"):
        main(settings(source, source.read_bytes()), tmp_path / "folder", folder=True)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("results/demo/attempts/rft-2-evl.csv", "did you mean 'results/demo/attempts/rft-2-eval.csv'"),
        ("results/demo/tables/scaling.csv", "cannot be restored"),
        ("../elsewhere.csv", "cannot be restored"),
        ("results/demo/sft/rft-1.jsonl", "restore both or neither"),
    ],
)
def test_only_artifacts_of_the_run_can_be_restored(path, message):
    values = yaml.safe_load(DEMO.read_text())
    values["restore"] = {path: {"source": "x", "sha256": "0" * 64}}
    with pytest.raises(SwedagError, match=message):
        load(values, [DEMO])
