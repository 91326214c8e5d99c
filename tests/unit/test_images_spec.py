"""What of a spec goes into its environment's definition, and what cannot be had is named."""

from pathlib import Path

import pytest

from swedag.config import load
from swedag.datasets.specs import EnvironmentSpec, RepositorySpec
from swedag.datasets.step import PublishedSettings
from swedag.errors import SwedagError
from swedag.images.mirror import BuildSettings
from swedag.images.spec import commands, conda_environment, find, set_up_python, suite

MOTO = Path("config/specs/getmoto__moto.yaml")


def build(**values) -> BuildSettings:
    return BuildSettings(source="build", **values)


def described(**values) -> EnvironmentSpec:
    base = {"name": "1", "versions": ["1"], "install": ["make init"], "test_command": "pytest"}
    return EnvironmentSpec.model_validate(base | values)


def repository(environment: EnvironmentSpec) -> RepositorySpec:
    return RepositorySpec(repository="a/B", log_parser="pytest", environments=[environment])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "testbed").mkdir()
    (tmp_path / "build").mkdir()
    return tmp_path


def test_an_environment_is_found_by_its_name_with_the_python_in_place_of_its_own():
    assert find(MOTO, "getmoto__moto-0.4-5.0-v4.1", build())[1].python == "3.12"
    assert find(MOTO, "getmoto__moto-0.4-5.0-v4.1-py3.11", build(python="3.11"))[0].repository == "getmoto/moto"
    with pytest.raises(SwedagError, match=r"getmoto__moto\.yaml: describes no environment getmoto__moto-9"):
        find(MOTO, "getmoto__moto-9", build())


@pytest.mark.parametrize(
    ("values", "chosen", "release"),
    [
        ({"python": "3.9"}, {}, "bullseye"),
        ({"python": "3.11"}, {}, "bookworm"),
        ({"python": "3.12"}, {"python": "3.13"}, "trixie"),
        ({"python": "3.6"}, {}, "bookworm"),
        ({"python": "3.9", "conda_packages": ["numpy"]}, {}, "bookworm"),
    ],
)
def test_python_is_debians_where_a_release_has_it(values, chosen, release, folder, monkeypatch):
    assert suite(described(**values), build(**chosen)) == release


def test_what_debian_lacks_is_named_with_what_to_do(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    older = described(python="3.6")
    with pytest.raises(SwedagError) as raised:
        set_up_python(repository(older), older, build(), folder)
    assert str(raised.value) == (
        "environment a__b-1: its spec wants Python 3.6, which Debian's releases (Python 3.9, 3.11, 3.13) do not have: "
        "put `micromamba` on PATH where conda-forge can be reached, set `images.python` to one of Debian's, "
        "or use published images (`source: registry`)"
    )
    with_numpy = described(python="3.9", conda_packages=["numpy"])
    with pytest.raises(SwedagError, match="wants packages of conda-forge"):
        set_up_python(repository(with_numpy), with_numpy, build(), folder)


def test_python_of_conda_forge_is_set_up_by_micromamba(folder, monkeypatch):
    (folder / "micromamba").write_text("#!/bin/sh\n")
    (folder / "micromamba").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    one = described(python="3.6", conda_packages=["numpy=1.19"])
    assert "create -y -q -p /opt/env -c conda-forge python=3.6 pip numpy=1.19" in "\n".join(
        set_up_python(repository(one), one, build(), folder)
    )
    (folder / "testbed/environment.yml").write_text("dependencies: [python=3.8, numpy>=1, pip: [dask]]\n")
    other = described(conda_environment=["ci.yml", "environment.yml"], conda_environment_pip=False)
    assert "-f /build/environment.yml" in set_up_python(repository(other), other, build(), folder)[1]
    assert (folder / "build/micromamba").is_file() and "dask" not in (folder / "build/environment.yml").read_text()
    nothing = described(conda_environment=["ci.yml"])
    with pytest.raises(SwedagError, match=r"the repository has none of ci\.yml at the commit"):
        set_up_python(repository(nothing), nothing, build(), folder)


def test_python_that_the_config_asks_for_takes_the_place_of_the_files():
    content = {"channels": ["conda-forge"], "dependencies": ["python>=3.8", "numpy", {"pip": ["dask"]}]}
    made = conda_environment(content, ["python=3.10", "pip"], True)
    assert made["dependencies"] == ["python=3.10", "pip", "numpy", {"pip": ["dask"]}]


def test_commands_are_those_of_the_spec_in_their_order(folder):
    (folder / "testbed/dev.txt").write_text("")
    one = described(requirements=["no.txt", "dev.txt"], pip_packages=["x[y]==1"], prepare=["export A=1"])
    assert commands(one, build(constraints=["setuptools<66"]), folder) == [
        "export PIP_CONSTRAINT=/build/constraints.txt",
        "python -m pip install -q -r dev.txt",
        "python -m pip install -q 'x[y]==1'",
        "export A=1",
        "make init",
    ]
    assert (folder / "build/constraints.txt").read_text() == "setuptools<66\n"


def test_rows_that_the_plan_cannot_know_are_refused():
    hub = {"kind": "hub", "repo": "a/b", "revision": "0" * 40}
    for images in ({"source": "build"}, {"source": "registry", "slim": True}):
        with pytest.raises(ValueError, match="is not known before they are fetched"):
            PublishedSettings(kind="published", source=hub, ids=["a__b-1"], images=images)
    PublishedSettings(kind="published", source=hub, ids=["a__b-1"], images={"source": "build", "environment": "x"})


def test_datasets_that_share_an_environment_must_agree_on_it():
    def config(**second):
        rows = {"kind": "published", "source": {"kind": "file", "path": "tests/data/instances/swe_gym_moto.jsonl"}}
        datasets = {"a": {"images": {"source": "build"}}, "b": {"images": {"source": "build"} | second}}
        return load({"run": "x", "datasets": {name: rows | one for name, one in datasets.items()}}, ["x.yaml"])

    names = {f"getmoto__moto-0.4-5.0-v{version}": "a" for version in ("4.1", "4.2", "5.0")}
    assert config().spec_environments() == names
    assert len(config(python="3.11").spec_environments()) == 6
    with pytest.raises(SwedagError, match=r"datasets\.b\.images: the environment getmoto__moto-0\.4-5\.0-v4\.1 has"):
        config(constraints=["boto3<1.40"]).spec_environments()
