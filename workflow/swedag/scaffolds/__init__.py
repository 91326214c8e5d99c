"""Scaffolds: how a model's replies become a patch. Each is a small state machine; see `protocol`."""

from typing import Annotated, get_args

from pydantic import Field

from swedag.instances import Instance
from swedag.scaffolds import codeact, mini, moatless, single_edit
from swedag.scaffolds.codeact import CodeActSettings
from swedag.scaffolds.mini import MiniSettings
from swedag.scaffolds.moatless import MoatlessSettings
from swedag.scaffolds.protocol import Attempt
from swedag.scaffolds.single_edit import SingleEditSettings

Settings = SingleEditSettings | MiniSettings | CodeActSettings | MoatlessSettings
ScaffoldSettings = Annotated[Settings, Field(discriminator="kind")]


def begin(instance: Instance, settings: Settings) -> Attempt:
    """A fresh attempt of the scaffold that `settings` name."""
    if isinstance(settings, CodeActSettings):
        return codeact.attempt(instance, settings)
    if isinstance(settings, MoatlessSettings):
        return moatless.attempt(instance, settings)
    if isinstance(settings, MiniSettings):
        return mini.attempt(instance, settings)
    return single_edit.attempt(instance, settings)


def others(kind: str) -> list[str]:
    """The modules of every other kind of scaffold, which a rollout by this one does not run."""
    modules = {made.model_fields["kind"].default: made.__module__.split(".") for made in get_args(Settings)}
    return [".".join(parts[1:3]) for other, parts in modules.items() if other != kind]
