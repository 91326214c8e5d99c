"""Rollouts: what a policy does on instances. One job serves the model and samples a block of runs of a shard."""

from swedag.rollouts.settings import EndpointSettings, RolloutSettings
from swedag.rollouts.step import main

__all__ = ["EndpointSettings", "RolloutSettings", "main"]
