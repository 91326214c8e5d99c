"""`swedag <step>`: one command per step. Only the module of the step that is asked for is imported."""

import importlib
import sys
import typing
from collections.abc import Callable

import typer
from pydantic import ValidationError
from rich.console import Console

from swedag.errors import SwedagError

STEPS = {
    "doctor": "swedag.doctor",
    "init-site": "swedag.init_site",
    "fetch-source": "swedag.images.sources",
    "fetch-wheels": "swedag.images.wheels",
    "os-image": "swedag.images.system",
    "environment-image": "swedag.images.environment",
    "tool-wheels": "swedag.images.tool_wheels",
    "tool-image": "swedag.images.tool_image",
    "spec-environment": "swedag.images.spec",
    "slim-images": "swedag.images.slim",
    "images-summary": "swedag.images.summary",
    "layers": "swedag.images.layers",
    "mirror": "swedag.images.mirror",
    "registry-image": "swedag.images.pull",
    "gate": "swedag.grading.gate",
    "gates": "swedag.grading.gates",
    "releases": "swedag.releases",
    "synthesize": "swedag.synthesize.step",
    "fetch-dataset": "swedag.datasets.hub",
    "instances": "swedag.datasets.step",
    "base-model": "swedag.models.step",
    "rollouts": "swedag.rollouts",
    "import-rollouts": "swedag.imports",
    "predictions": "swedag.predictions",
    "grade": "swedag.grading.step",
    "grade-log": "swedag.grading.stored",
    "attempts": "swedag.attempts",
    "training-set": "swedag.training_sets",
    "train": "swedag.training",
    "verifier-data": "swedag.verifier_data",
    "score": "swedag.verifier",
    "metrics": "swedag.metrics",
    "tables": "swedag.tables",
    "figures": "swedag.figures",
    "report": "swedag.report.page",
    "provenance": "swedag.provenance",
    "lineage": "swedag.provenance.lineage",
    "summary": "swedag.summary",
    "show": "swedag.show",
    "plan": "swedag.plan",
    "restore": "swedag.restore",
    "config": "swedag.config",
}


def main() -> None:
    app = typer.Typer(
        name="swedag", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    app.callback()(lambda: None)
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    commands = {step: importlib.import_module(STEPS[step]).main for step in ([asked] if asked in STEPS else STEPS)}
    for step, command in commands.items():
        app.command(step)(command)
    try:
        app(spread(sys.argv[1:], list_options(commands[asked])) if asked in commands else None)
    except SwedagError as error:
        fail(asked, str(error))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        fail(asked, f"{error.title}: " + "; ".join(problems))


def fail(step: str, message: str) -> None:
    console = Console(stderr=True)
    console.print(f"swedag {step}: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def list_options(command: Callable[..., None]) -> set[str]:
    """The options of a step that take a list of files."""
    hints = typing.get_type_hints(command)
    return {f"--{name.replace('_', '-')}" for name, hint in hints.items() if "list[" in str(hint)}


def spread(arguments: list[str], options: set[str]) -> list[str]:
    """`--files a b` as `--files a --files b`: such an option may be followed by all that a shell's glob gives, or by
    nothing, which is an empty list."""
    spread_out: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("--"):
            option = argument if argument in options else ""
        if option and argument != option:
            spread_out += [option, argument]
        elif not option:
            spread_out.append(argument)
    return spread_out
