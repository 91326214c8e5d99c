"""Moatless: the paper's agent of fixed steps, from searching code to editing spans of it; replies are JSON."""

from swedag.scaffolds.moatless.agent import MoatlessSettings, attempt

__all__ = ["MoatlessSettings", "attempt"]
