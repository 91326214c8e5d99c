"""The specs in config/specs: typed, one per version, and what they say of tests and parsers agrees with the facts."""

from pathlib import Path

import pytest
import yaml

from swedag.datasets.specs import FOLDER, RepositorySpec, read_specs, resolve, spec_files
from swedag.datasets.step import read_ids
from swedag.errors import SwedagError
from swedag.grading.parsers import PARSERS

SPECS = read_specs(sorted(FOLDER.glob("*.yaml")))
# Versions in the maps of the harnesses (SWE-Gym/SWE-Bench-Package 16dd480, swebench 4.1.0) and log parsers.
SWE_GYM = {
    "python/mypy": 23,
    "getmoto/moto": 14,
    "conan-io/conan": 34,
    "dask/dask": 60,
    "Project-MONAI/MONAI": 15,
    "iterative/dvc": 147,
    "bokeh/bokeh": 24,
    "modin-project/modin": 28,
    "pydantic/pydantic": 40,
    "pandas-dev/pandas": 21,
    "facebookresearch/hydra": 10,
}
SWE_BENCH = {
    "astropy/astropy": 17,
    "django/django": 20,
    "matplotlib/matplotlib": 19,
    "mwaskom/seaborn": 4,
    "pallets/flask": 6,
    "psf/requests": 28,
    "pydata/xarray": 9,
    "pylint-dev/pylint": 14,
    "pytest-dev/pytest": 20,
    "scikit-learn/scikit-learn": 7,
    "sphinx-doc/sphinx": 34,
    "sympy/sympy": 15,
}
PATCH = """\
diff --git a/tests/model_fields/test_a.py b/tests/model_fields/test_a.py
--- a/tests/model_fields/test_a.py
diff --git a/test-data/unit/check-a.test b/test-data/unit/check-a.test
+[case testOne]
+[case testTwo]
+[case testOne]
diff --git a/tests/data.json b/tests/data.json
diff --git a/old/tests/test_b.py b/new/tests/test_b.py
"""


def test_every_repository_of_the_paper_and_of_swe_bench_has_its_versions():
    counted = {spec.repository: sum(len(found.versions) for found in spec.environments) for spec in SPECS.values()}
    assert counted == SWE_GYM | SWE_BENCH
    assert all(
        path.stem == read_specs([path]).popitem()[1].repository.replace("/", "__") for path in FOLDER.glob("*.yaml")
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.repository)
def test_every_version_resolves_to_exactly_one_environment(spec):
    for version in [version for environment in spec.environments for version in environment.versions]:
        named = [environment for environment in spec.environments if version in environment.versions]
        assert resolve(SPECS, spec.repository.upper(), version) == (spec, named[0]) and len(named) == 1
    assert spec.log_parser in PARSERS


def test_names_of_environments_are_names_of_files_and_unlike():
    names = [spec.environment_name(environment) for spec in SPECS.values() for environment in spec.environments]
    assert len(set(names)) == len(names) == 70
    assert all(name == name.lower() and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("repository", "version", "python", "test_command", "parser"),
    [
        ("python/mypy", "1.11", "3.12", "pytest -rA -k", "pytest"),
        ("python/mypy", "1.6", "3.11", "pytest -n0 -rA -k", "pytest"),
        ("python/mypy", "0.990", "3.10", "pytest -n0 -rA -k", "pytest"),
        ("python/mypy", "0.800", "3.9", "pytest -n0 -rA -k", "pytest"),
        ("getmoto/moto", "5.0", "3.12", "pytest -n0 -rA", "pytest"),
        ("conan-io/conan", "2.0", "3.10", "PYTHONPATH=${PYTHONPATH:-}:$(pwd) pytest -n0 -rA", "pytest"),
        ("dask/dask", "2024.5", None, "pytest -n0 -rA --color=no", "pytest"),
        ("Project-MONAI/MONAI", "0.105", "3.8", "pytest -rA", "pytest"),
        ("iterative/dvc", "0.93", "3.8", "pytest -rA", "pytest"),
        ("iterative/dvc", "3.3", "3.9", "pytest -rA", "pytest"),
        ("iterative/dvc", "3.4", "3.10", "pytest -rA", "pytest"),
        ("bokeh/bokeh", "3.0", "3.10", "pytest -rA -n0", "pytest"),
        ("modin-project/modin", "0.19", "3.8", "pytest -n0 -rA", "pytest"),
        ("modin-project/modin", "0.20", "3.9", "pytest -n0 -rA", "pytest"),
        ("pydantic/pydantic", "1.10", "3.7", "pytest -rA --tb=short -vv -o console_output_style=classic --no-header", "pytest_pydantic"),
        ("pydantic/pydantic", "2.7", "3.8", "pytest -rA --tb=short -vv -o console_output_style=classic --no-header", "pytest_pydantic"),
        ("pandas-dev/pandas", "3.0", None, "pytest -rA --tb=long", "pytest"),
        ("facebookresearch/hydra", "1.3", "3.8", "pytest -rA --tb=long", "pytest"),
        ("django/django", "5.0", "3.11", "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1", "django"),
        ("sphinx-doc/sphinx", "7.2", "3.9", "tox --current-env -epy39 -v --", "pytest_v2"),
        ("astropy/astropy", "v5.3", "3.10", "pytest -rA", "pytest_v2"),
    ],
)  # fmt: skip
def test_specs_say_what_the_paper_and_the_harness_say(repository, version, python, test_command, parser):
    spec, environment = resolve(SPECS, repository, version)
    assert (environment.python, environment.test_command, spec.log_parser) == (python, test_command, parser)


def test_where_requirements_and_system_packages_come_from():
    _, dask = resolve(SPECS, "dask/dask", "2.30")
    assert len(dask.conda_environment) == 4 and not dask.conda_environment_pip and dask.install
    _, hydra = resolve(SPECS, "facebookresearch/hydra", "1.0")
    assert "openjdk-17-jdk" in hydra.system_packages
    old, new = (resolve(SPECS, "iterative/dvc", version)[1] for version in ("3.3", "3.4"))
    assert 'python -m pip install "pytest<8"' in old.install and 'python -m pip install "pytest<8"' not in new.install
    assert not any(
        "apt-get" in command for s in SPECS.values() for e in s.environments for command in (*e.prepare, *e.install)
    )
    assert not any(
        "git fetch" in command or "git remote" in command
        for s in SPECS.values()
        for e in s.environments
        for command in e.prepare
    )


def test_tests_are_selected_as_the_harness_does():
    assert SPECS["getmoto/moto"].selected_tests(PATCH) == [
        "tests/model_fields/test_a.py",
        "test-data/unit/check-a.test",
        "new/tests/test_b.py",
    ]
    assert SPECS["python/mypy"].selected_tests(PATCH) == ["testOne or testTwo"]
    assert SPECS["django/django"].selected_tests(PATCH)[0] == "model_fields.test_a"
    assert SPECS["getmoto/moto"].selected_tests("") == SPECS["python/mypy"].selected_tests("") == []


def test_every_listed_id_has_a_spec():
    for path in Path("config/instances").glob("*.txt"):
        prefixes = {name.rpartition("-")[0] for name in read_ids(path)}
        assert {found.stem.lower() for found in spec_files(prefixes)} == {prefix.lower() for prefix in prefixes}


SOUND = {
    "repository": "a/b",
    "log_parser": "pytest",
    "environments": [{"name": "1", "versions": ["1.0"], "install": ["true"], "test_command": "pytest"}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_parsr": "pytest"}, "log_parsr: Extra inputs"),
        ({"environments": SOUND["environments"] * 2}, "environment 1 stands more than once"),
        (
            {"environments": [SOUND["environments"][0] | {"versions": ["1.0", "1.0"]}]},
            "version 1.0 stands more than once",
        ),
        (
            {"environments": [SOUND["environments"][0] | {"versions": [1.10]}]},
            r"environments.0.versions.0: Input should be a valid string",
        ),
    ],
)
def test_a_mistake_in_a_spec_is_named(tmp_path, change, message):
    path = tmp_path / "a__b.yaml"
    path.write_text(yaml.safe_dump(SOUND | change))
    with pytest.raises(SwedagError, match=f"{path}: .*{message}"):
        read_specs([path])


def test_two_specs_of_one_repository_are_refused(tmp_path):
    paths = [tmp_path / "a__b.yaml", tmp_path / "A__B.yaml"]
    for path in paths:
        path.write_text(yaml.safe_dump(SOUND))
    with pytest.raises(SwedagError, match="a/b has another spec already"):
        read_specs(paths)
    with pytest.raises(SwedagError, match="No such file"):
        read_specs([tmp_path / "absent.yaml"])
    assert RepositorySpec.model_validate(SOUND).environment_of("2.0") is None
