"""The environment image that a spec of config/specs describes: its Python, packages, and commands, run in one commit.

In: the spec, the instances of its environment, a mirror of their repository. Out: an image, and a tar of what
installing the repository wrote in /testbed. Apptainer follows a definition that holds every command (`apptainer inspect
--deffile` shows it); the versions that came of it are listed in the image, in /opt/env/installed.txt.

There is an image per version of a repository, since what it requires changes, even where the spec does not.

The repository is installed at /testbed, where every instance has it, from the newest instance's commit. So an editable
install finds each instance's code there, and console commands and metadata lie in the image. What the install wrote in
/testbed itself (an egg-info, a version file, compiled extensions) is taken out of the image and added to every layer.
Extensions are those of the one commit: where a patch or another commit changes their source, the gate does not pass.

Python is Debian's where a release of Debian has it, else conda-forge's.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from swedag.apptainer import build_folder, find_apptainer, run_tool
from swedag.artifacts import replacing
from swedag.datasets.specs import EnvironmentSpec, RepositorySpec, read_specs
from swedag.errors import SwedagError
from swedag.images.environment import COMPRESSION, privilege
from swedag.images.instance import check_out
from swedag.images.mirror import BuildSettings
from swedag.instances import Instance, read_instances
from swedag.node_folder import node_folder
from swedag.squashfs import unpack

# The Python of Debian's releases, and the release below Pythons of conda-forge.
SUITES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
BELOW_CONDA = "bookworm"
# What the published images have besides, and commands of the specs take for granted.
BUILD_TOOLS = ("build-essential", "libffi-dev", "python3-dev")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
DEFINITION = """\
Bootstrap: localimage
From: {os_image}

%labels
    swedag.repository {repository}
    swedag.version {version}
    swedag.commit {commit}

%files
    {folder}/build /build
    {folder}/testbed /build/testbed

%post -c /bin/bash
    set -ex
    export DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
    apt-get -q -o APT::Sandbox::User=root update
    apt-get -q -y -o APT::Sandbox::User=root -o DPkg::Options::=--force-unsafe-io install --no-install-recommends \\
        {system_packages}
    {python}
    export PATH=/opt/env/bin:$PATH VIRTUAL_ENV=/opt/env SETUPTOOLS_SCM_PRETEND_VERSION={version}
    rmdir /testbed
    mv /build/testbed /testbed
    cd /testbed
    {commands}
    cd /testbed
    /opt/env/bin/python -m pip freeze --all >/opt/env/installed.txt
    mkdir /opt/testbed
    git -c safe.directory=* ls-files -z --others --exclude=__pycache__ --exclude=/build |
        xargs -0 -r cp --parents --no-dereference -t /opt/testbed
    find /testbed -mindepth 1 -delete
    rm -rf /build /var/lib/apt/lists/* /var/cache/apt/*.bin /root/.cache

%environment
    export PATH=/opt/env/bin:/usr/local/bin:/usr/bin:/bin
    export LANG=C.UTF-8
"""


def main(
    environment: Annotated[str, typer.Option(help="Name of the environment")],
    spec: Annotated[Path, typer.Option(help="The spec of its repository (.yaml)")],
    settings: Annotated[str, typer.Option(help="BuildSettings as JSON; `python` and `constraints` of them count")],
    instances: Annotated[Path, typer.Option(help="Instances, some of them of this environment (.jsonl)")],
    mirror: Annotated[Path, typer.Option(help="Mirror of the repository (.git)")],
    os_image: Annotated[Path, typer.Option("--os", help="The operating-system image (.sif)")],
    output: Annotated[Path, typer.Option(help="The image (.sif)")],
    written: Annotated[Path, typer.Option(help="What the install wrote in /testbed (.tar)")],
) -> None:
    """Build the environment image of a spec. Needs a network; run it on a login node."""
    chosen = BuildSettings.model_validate_json(settings)
    repository, described = find(spec, environment, chosen)
    instance = representative(instances, environment)
    with node_folder("env", build_folder()) as folder:
        check_out(f"environment {environment}", mirror, instance.base_commit, folder / "testbed")
        (folder / "build").mkdir()
        python = set_up_python(repository, described, chosen, folder)
        text = DEFINITION.format(
            repository=repository.repository,
            version=instance.version,
            commit=instance.base_commit,
            os_image=os_image.resolve(),
            folder=folder,
            system_packages=shlex.join(sorted({*BUILD_TOOLS, *described.system_packages})),
            python="\n    ".join(python),
            commands="\n    ".join(commands(described, chosen, folder)),
        )
        (folder / "environment.def").write_text(text)
        with replacing(output) as temporary:
            build(environment, folder, temporary)
            pack_written(environment, temporary, folder / "written", written)


def find(path: Path, environment: str, settings: BuildSettings) -> tuple[RepositorySpec, EnvironmentSpec]:
    """The spec that describes an environment; SwedagError names the file that should."""
    for repository in read_specs([path]).values():
        for described in repository.environments:
            name = repository.environment_name(described)
            if environment in [settings.environment_of(name, version) for version in described.versions]:
                return repository, described
    raise SwedagError(f"{path}: describes no environment {environment}")


def representative(path: Path, environment: str) -> Instance:
    """The newest instance of the environment."""
    members = [row for row in read_instances(path).values() if row.environment == environment]
    if not members:
        raise SwedagError(f"{path}: no instance has the environment {environment}")
    return max(members, key=lambda row: (row.created_at, row.instance_id))


def suite(described: EnvironmentSpec, settings: BuildSettings) -> str:
    """The release of Debian below an environment."""
    return BELOW_CONDA if _wants_conda(described, settings) else SUITES[_python(described, settings)]


def _python(described: EnvironmentSpec, settings: BuildSettings) -> str:
    return settings.python or described.python or ""


def _wants_conda(described: EnvironmentSpec, settings: BuildSettings) -> bool:
    conda = described.conda_environment or described.conda_packages
    return bool(conda) or _python(described, settings) not in SUITES


def set_up_python(
    repository: RepositorySpec, described: EnvironmentSpec, settings: BuildSettings, folder: Path
) -> list[str]:
    """Commands that make /opt/env; what they read is put into `folder`/build."""
    if not _wants_conda(described, settings):
        return ["python3 -m venv /opt/env"]
    program, python = shutil.which("micromamba"), _python(described, settings)
    if program is None:
        wanted = "packages of conda-forge" if python in SUITES or not python else f"Python {python}"
        raise SwedagError(
            f"environment {repository.environment_name(described)}: its spec wants {wanted}, which Debian's releases "
            f"(Python {', '.join(SUITES)}) do not have: put `micromamba` on PATH where conda-forge can be reached, "
            + ("" if wanted.startswith("packages") else "set `images.python` to one of Debian's, ")
            + "or use published images (`source: registry`)"
        )
    shutil.copy(program, folder / "build/micromamba")
    packages = [*([f"python={python}"] if python else []), "pip", *described.conda_packages]
    file = _first(described.conda_environment, folder / "testbed")
    if file:
        content = yaml.safe_load((folder / "testbed" / file).read_text())
        (folder / "build/environment.yml").write_text(
            yaml.safe_dump(conda_environment(content, packages, described.conda_environment_pip))
        )
        create = "create -y -q -p /opt/env -f /build/environment.yml"
    else:
        create = f"create -y -q -p /opt/env -c conda-forge {shlex.join(packages)}"
    return ["export MAMBA_ROOT_PREFIX=/opt/conda", f"/build/micromamba {create}", "rm -rf /opt/conda"]


def conda_environment(content: dict[str, Any], packages: list[str], with_pip: bool) -> dict[str, Any]:
    """An environment file with further packages, whose own Python gives way, and without its pip section if asked."""
    names = {re.split(r"[=<>! ]", one)[0] for one in packages}
    kept = [
        one
        for one in content.get("dependencies", [])
        if (with_pip if isinstance(one, dict) else re.split(r"[=<>! ]", one)[0] not in names)
    ]
    return {"channels": content.get("channels") or ["conda-forge"], "dependencies": [*packages, *kept]}


def commands(described: EnvironmentSpec, settings: BuildSettings, folder: Path) -> list[str]:
    """What runs in the repository, in one shell: requirements, packages, the spec's own commands."""
    found = []
    if settings.constraints:
        (folder / "build/constraints.txt").write_text("".join(f"{one}\n" for one in settings.constraints))
        found.append("export PIP_CONSTRAINT=/build/constraints.txt")
    file = _first(described.requirements, folder / "testbed")
    if file:
        found.append(f"python -m pip install -q -r {shlex.quote(file)}")
    if described.pip_packages:
        found.append(f"python -m pip install -q {shlex.join(described.pip_packages)}")
    return [*found, *described.prepare, *described.install]


def _first(files: list[str], testbed: Path) -> str:
    """The first of these files that the repository has; none where none are named."""
    found = [file for file in files if (testbed / file).is_file()]
    if files and not found:
        raise SwedagError(
            f"the repository has none of {', '.join(files)} at the commit that its environment is made of"
        )
    return found[0] if found else ""


def build(environment: str, folder: Path, output: Path) -> None:
    """Follow the definition in `folder`, with the user's own pip settings and certificates."""
    variables, binds = pip_settings()
    run_tool(
        f"environment {environment}",
        *(find_apptainer(), "--quiet", "build", "--force", *privilege(), "--mksquashfs-args", COMPRESSION),
        *(word for bind in binds for word in ("--bind", bind)),
        *(output.resolve(), folder / "environment.def"),
        env={"APPTAINER_TMPDIR": str(folder), **variables},
    )


def pip_settings() -> tuple[dict[str, str], list[str]]:
    """Variables that lead pip to the index that the user's own pip has, and the certificates that vouch for it."""
    listed = run_tool("pip", sys.executable, "-m", "pip", "config", "list")
    found = dict(re.findall(r"(?m)^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed))
    names = ("index-url", "extra-index-url", "trusted-host")
    variables = {f"PIP_{name.upper().replace('-', '_')}": found[name] for name in names if name in found}
    certificates = os.environ.get("SSL_CERT_FILE") or found.get("cert")
    return variables, [f"{certificates}:{CERTIFICATES}"] if certificates else []


def pack_written(environment: str, image: Path, scratch: Path, output: Path) -> None:
    """The image's /opt/testbed as a tar, without owners and times."""
    what = f"environment {environment}"
    unpack(what, image, scratch, "opt/testbed")
    compiled = sorted(str(path.relative_to(scratch / "opt/testbed")) for path in scratch.rglob("*.so"))
    if compiled:
        said = f"{what}: every layer gets the extensions that were compiled at this one commit: {', '.join(compiled)}"
        Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
    with replacing(output) as temporary:
        run_tool(
            what,
            *("tar", "-c", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"),
            *("-f", temporary, "-C", scratch / "opt/testbed", "."),
        )
