"""What a registry says of an image, by the OCI distribution API: the digest behind a tag, or that there is none.

Only HEAD requests are made, which Docker Hub does not count as pulls. Credentials are Apptainer's own: the environment
(APPTAINER_DOCKER_USERNAME, APPTAINER_DOCKER_PASSWORD), then Apptainer's and Docker's config files.
"""

import base64
import binascii
import ipaddress
import json
import os
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from swedag.errors import SwedagError

MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
REFERENCE = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]*[.:][A-Za-z0-9.:-]*|localhost)/)?(?P<repository>[a-z0-9][a-z0-9._/-]*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
HUB = "docker.io"
HUB_SERVER = "registry-1.docker.io"
HUB_IN_CONFIG = "https://index.docker.io/v1/"
ATTEMPTS = 5
LONGEST_WAIT = 24 * 3600.0
# Docker Hub says how many pulls a window has but not when it ends: look again every now and then.
LOOK_AGAIN = 300.0
ABSENT = {401: "denied: it does not exist, or needs credentials", 403: "forbidden", 404: "not found"}


@dataclass(frozen=True)
class Reference:
    """An image's name, taken apart: `host/repository:tag`, or `host/repository@digest`."""

    host: str
    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def plain_http(self) -> bool:
        """Registries on this machine speak HTTP, as for Docker."""
        return _is_loopback(self.host)

    @property
    def manifest_url(self) -> str:
        server = HUB_SERVER if self.host == HUB else self.host
        scheme = "http" if self.plain_http else "https"
        return f"{scheme}://{server}/v2/{self.repository}/manifests/{self.digest or self.tag}"

    def at(self, digest: str) -> str:
        """The name by which exactly this content is pulled."""
        return f"{self.host}/{self.repository}@{digest}"


@dataclass(frozen=True)
class Answer:
    """`digest` of the image, or "" and the `reason` why there is none."""

    digest: str
    reason: str = ""


@dataclass(frozen=True)
class Credentials:
    """A user of a registry. Never printed, never on a command line."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ***)"


class RateLimited(Exception):
    """The registry wants no more requests for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"no more requests for {seconds:g} s")


class Unsettled(Exception):
    """A server's error that may pass."""


def parse(name: str) -> Reference:
    """`owner/image`, `host:port/owner/image:tag@sha256:…`; without a host Docker Hub's, without a tag `latest`."""
    found = REFERENCE.fullmatch(name)
    if not found:
        raise SwedagError(f"{name!r} is not the name of an image, as docker.io/owner/image:tag (lower case)")
    host, repository = found["host"] or HUB, found["repository"]
    if host == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(host, repository, found["tag"] or "latest", found["digest"] or "")


def resolve(reference: Reference, say: Callable[[str], None], *, to_pull: bool = False) -> Answer:
    """The digest that the registry has now; absent images are an answer, too.

    Waits out rate limits (`say` is told until when) and passing errors; SwedagError when the registry stays silent.
    `to_pull`: wait as well while the registry answers, but says that no pulls are left.
    """

    def wait(state: RetryCallState) -> None:
        assert state.next_action is not None
        until = datetime.now(UTC) + timedelta(seconds=state.next_action.sleep)
        say(f"{reference.host}: its rate limit is reached; waiting until {until:%Y-%m-%d %H:%M:%S} UTC")

    patient = Retrying(
        retry=retry_if_exception_type(RateLimited),
        wait=_limit_of,
        stop=stop_after_delay(LONGEST_WAIT),
        before_sleep=wait,
        reraise=True,
    )
    stubborn = Retrying(
        retry=retry_if_exception_type((httpx.TransportError, Unsettled)),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        answer: Answer = patient(stubborn, _ask, reference, to_pull)
        return answer
    except RateLimited as error:
        raise SwedagError(f"{reference}: the rate limit of {reference.host} did not end within a day") from error
    except (httpx.TransportError, Unsettled) as error:
        raise SwedagError(
            f"{reference}: {reference.host} could not be asked in {ATTEMPTS} attempts: "
            f"{error or type(error).__name__}; is there a network (run it on a login node)?"
        ) from error


def credentials(host: str) -> Credentials | None:
    """Those of the environment, else those that a config file has for `host`."""
    user, password = (os.environ.get(f"APPTAINER_DOCKER_{part}") for part in ("USERNAME", "PASSWORD"))
    if user and password:
        return Credentials(user, password)
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for path in (Path.home() / ".apptainer/docker-config.json", docker / "config.json"):
        try:
            known = json.loads(path.read_text())["auths"]
            entry = known[HUB_IN_CONFIG if host == HUB else host]["auth"]
            user, _, password = base64.b64decode(entry).decode().partition(":")
        except (OSError, KeyError, TypeError, ValueError, binascii.Error):
            continue
        return Credentials(user, password)
    return None


class _TokenAuth(httpx.Auth):
    """Answers a registry's challenge: basic credentials, or a token from the server that it names."""

    requires_response_body = True

    def __init__(self, host: str) -> None:
        known = credentials(host)
        self._basic = "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode() if known else ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        kind, _, rest = response.headers.get("www-authenticate", "").partition(" ")
        if response.status_code != 401:
            return
        if kind.lower() == "basic" and self._basic:
            request.headers["authorization"] = self._basic
            yield request
        elif kind.lower() == "bearer":
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            realm = httpx.URL(wanted.pop("realm", ""))
            headers = {"authorization": self._basic} if self._basic and _is_private(realm) else {}
            granted = yield httpx.Request("GET", realm.copy_merge_params(wanted), headers=headers)
            if granted.status_code == 200:
                token = granted.json()
                request.headers["authorization"] = f"Bearer {token.get('token') or token['access_token']}"
                yield request


def _ask(reference: Reference, to_pull: bool) -> Answer:
    with httpx.Client(auth=_TokenAuth(reference.host), follow_redirects=True, timeout=30) as client:
        response = client.head(reference.manifest_url, headers={"accept": MEDIA_TYPES})
    exhausted = response.headers.get("ratelimit-remaining", "").partition(";")[0] == "0"
    if response.status_code == 429 or (to_pull and exhausted):
        raise RateLimited(_seconds(response.headers))
    if response.status_code in ABSENT:
        return Answer("", f"the registry says {response.status_code}, {ABSENT[response.status_code]}")
    if response.status_code >= 500:
        raise Unsettled(f"it answers {response.status_code}")
    digest = response.headers.get("docker-content-digest", "")
    if response.status_code != 200 or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SwedagError(f"{reference}: the registry answers {response.status_code} with the digest {digest!r}")
    return Answer(digest)


def _seconds(headers: httpx.Headers) -> float:
    """How long to wait, by whichever header the registry uses: seconds, a date, or seconds since 1970."""
    after = headers.get("retry-after") or headers.get("x-ratelimit-reset") or headers.get("x-retry-after") or ""
    if after.isdigit():
        seconds = float(after)
        since_1970 = datetime.now(UTC).timestamp()
        return max(1.0, seconds - since_1970 if seconds > since_1970 / 2 else seconds)
    try:
        return max(1.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return LOOK_AGAIN


def _limit_of(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, RateLimited) else LOOK_AGAIN


def _is_private(url: httpx.URL) -> bool:
    """Whether a password may be sent there."""
    return url.scheme == "https" or _is_loopback(url.netloc.decode())


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
