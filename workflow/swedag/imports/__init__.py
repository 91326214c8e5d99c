"""Published trajectories as rollouts, so that nobody has to pay a teacher to reproduce what was once sampled."""

from swedag.imports.step import main

__all__ = ["main"]
