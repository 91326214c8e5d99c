"""Names of images, waits that registries ask for, tokens: against small HTTP servers that answer as registries do."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from swedag.errors import SwedagError
from swedag.images import registry
from swedag.images.pull import RegistrySettings
from swedag.images.registry import Answer, Credentials, Reference, credentials, parse, resolve

DIGEST = f"sha256:{'a' * 64}"


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, int], tuple[int, dict[str, str], str]]) -> Iterator[str]:
    """A server whose `answer` gets the request and its number; yields host:port."""
    count = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self, next(count))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body.encode())

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ubuntu", Reference("docker.io", "library/ubuntu", "latest")),
        ("xingyaoww/sweb.eval.x86_64.getmoto_s_moto-6736", Reference("docker.io", "xingyaoww/sweb.eval.x86_64.getmoto_s_moto-6736", "latest")),
        ("docker.io/a/b:v1.0", Reference("docker.io", "a/b", "v1.0")),
        ("localhost/a", Reference("localhost", "a", "latest")),
        ("ghcr.io/a/b/c:x", Reference("ghcr.io", "a/b/c", "x")),
        (f"127.0.0.1:5000/a@{DIGEST}", Reference("127.0.0.1:5000", "a", "latest", DIGEST)),
    ],
)  # fmt: skip
def test_names_of_images(name: str, expected: Reference):
    assert parse(name) == expected


@pytest.mark.parametrize("name", ["", "UPPER/case", "a b", "a/b:", "a/b@sha256:12", "-a", "a;b", "docker://a/b"])
def test_what_is_no_name_is_refused(name: str):
    with pytest.raises(SwedagError, match="is not the name of an image"):
        parse(name)


def test_names_of_published_images():
    assert RegistrySettings(source="registry").image_of("Project-MONAI__MONAI-6446") == (
        "docker.io/xingyaoww/sweb.eval.x86_64.project-monai_s_monai-6446:latest"
    )
    swebench = RegistrySettings(source="registry", image="swebench/sweb.eval.x86_64.{instance}", separator="_1776_")
    assert swebench.image_of("astropy__astropy-12907") == "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907"
    with pytest.raises(ValueError, match="same image"):
        RegistrySettings(source="registry", image="docker.io/a/b:latest")


def test_urls_are_those_of_the_distribution_api():
    assert parse("a/b:c").manifest_url == "https://registry-1.docker.io/v2/a/b/manifests/c"
    assert parse(f"localhost:5000/a@{DIGEST}").manifest_url == f"http://localhost:5000/v2/a/manifests/{DIGEST}"
    assert parse("127.0.0.2/a").plain_http and not parse("example.org:80/a").plain_http


def test_token_is_fetched_where_the_challenge_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APPTAINER_DOCKER_USERNAME", "reader")
    monkeypatch.setenv("APPTAINER_DOCKER_PASSWORD", "word")
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler, number: int) -> tuple[int, dict[str, str], str]:
        seen.append(f"{request.command} {request.path}")
        if request.path.startswith("/token"):
            assert request.headers["authorization"] == "Basic " + base64.b64encode(b"reader:word").decode()
            return 200, {}, json.dumps({"token": "granted"})
        if request.headers["authorization"] != "Bearer granted":
            realm = f'Bearer realm="http://{request.headers["host"]}/token",service="s",scope="repository:a/b:pull"'
            return 401, {"www-authenticate": realm}, ""
        return 200, {"docker-content-digest": DIGEST}, ""

    with answering(answer) as host:
        assert resolve(parse(f"{host}/a/b:c"), print) == Answer(DIGEST)
    assert seen == [
        "HEAD /v2/a/b/manifests/c",
        "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull",
        "HEAD /v2/a/b/manifests/c",
    ]


def test_password_is_sent_nowhere_unencrypted(monkeypatch: pytest.MonkeyPatch):
    assert registry._is_private(httpx.URL("https://auth.example.org/token"))
    assert registry._is_private(httpx.URL("http://127.0.0.1:80/token"))
    assert not registry._is_private(httpx.URL("http://auth.example.org/token"))
    assert not registry._is_private(httpx.URL("http://127.0.0.1.example.org/token"))


def test_rate_limit_is_waited_out_and_said():
    said: list[str] = []

    def answer(request: BaseHTTPRequestHandler, number: int) -> tuple[int, dict[str, str], str]:
        return (429, {"retry-after": "1"}, "") if number == 0 else (200, {"docker-content-digest": DIGEST}, "")

    with answering(answer) as host:
        assert resolve(parse(f"{host}/a"), said.append).digest == DIGEST
    assert len(said) == 1
    assert re.fullmatch(
        rf"{host}: its rate limit is reached; waiting until \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said[0]
    )


def test_no_pulls_left_is_waited_out_only_before_a_pull():
    def answer(request: BaseHTTPRequestHandler, number: int) -> tuple[int, dict[str, str], str]:
        left = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{int(number > 1)};w=21600"}
        return 200, {"docker-content-digest": DIGEST, "retry-after": "1"} | left, ""

    said: list[str] = []
    with answering(answer) as host:
        assert resolve(parse(f"{host}/a"), said.append).digest == DIGEST and not said
        assert resolve(parse(f"{host}/a"), said.append, to_pull=True).digest == DIGEST and len(said) == 1


def test_passing_errors_are_tried_again():
    def answer(request: BaseHTTPRequestHandler, number: int) -> tuple[int, dict[str, str], str]:
        return (503, {}, "") if number < 2 else (200, {"docker-content-digest": DIGEST}, "")

    with answering(answer) as host:
        assert resolve(parse(f"{host}/a"), print).digest == DIGEST


@pytest.mark.parametrize(("status", "reason"), [(404, "404, not found"), (403, "403, forbidden"), (401, "401, denied")])
def test_absent_images_are_an_answer(status: int, reason: str):
    with answering(lambda request, number: (status, {}, "")) as host:
        answer = resolve(parse(f"{host}/a"), print)
    assert answer.digest == "" and reason in answer.reason


@pytest.mark.parametrize("headers", [{}, {"docker-content-digest": "md5:1"}])
def test_answer_without_a_digest_is_no_answer(headers: dict[str, str]):
    with (
        answering(lambda request, number: (200, headers, "")) as host,
        pytest.raises(SwedagError, match="answers 200 with the digest"),
    ):
        resolve(parse(f"{host}/a"), print)


def test_silent_registry_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "wait_random_exponential", lambda **_: lambda state: 0)
    with pytest.raises(SwedagError, match=r"127\.0\.0\.1:9/a:latest: 127\.0\.0\.1:9 could not be asked in 5 attempts"):
        resolve(parse("127.0.0.1:9/a"), print)


def test_waits_in_every_form_that_registries_use():
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=90)
    assert registry._seconds(httpx.Headers({"retry-after": "7"})) == 7
    assert 80 < registry._seconds(httpx.Headers({"retry-after": format_datetime(soon, usegmt=True)})) <= 90
    assert 80 < registry._seconds(httpx.Headers({"x-ratelimit-reset": str(int(soon.timestamp()))})) <= 90
    assert registry._seconds(httpx.Headers({})) == registry.LOOK_AGAIN


def test_credentials_of_config_files(tmp_path, monkeypatch: pytest.MonkeyPatch):
    for name in ("APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert credentials("ghcr.io") is None
    (tmp_path / ".docker").mkdir()
    auths = {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"me:a:b").decode()}, "ghcr.io": {}}
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": auths}))
    assert credentials("docker.io") == Credentials("me", "a:b")
    assert credentials("ghcr.io") is None
    assert "a:b" not in repr(credentials("docker.io"))
    (tmp_path / ".docker/config.json").write_text("{")
    assert credentials("docker.io") is None
