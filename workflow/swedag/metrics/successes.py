"""How often each instance was resolved, and how many rollouts a cap per instance would keep (the paper's Figure 3).

In: an attempts table. Out: counts by instance. min(count, cap), summed over instances, is Table 4's number of
trajectories.
"""

from swedag.metrics.reading import Table

CAPS = (1, 2, 3)


def successes(table: Table) -> list[tuple[str, int]]:
    """(instance_id, resolved attempts) of those resolved at all, most first."""
    counts = {name: sum(attempt.resolved is True for attempt in attempts) for name, attempts in table.instances.items()}
    return sorted(((name, n) for name, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))


def kept(counts: list[int], cap: int) -> int:
    """Resolved attempts that are left with at most `cap` of an instance."""
    return sum(min(count, cap) for count in counts)


def in_words(counts: list[int]) -> str:
    """The sums that Table 4 has, as a sentence."""
    caps = ", ".join(f"{kept(counts, cap)} with at most {cap}" for cap in CAPS)
    return f"{len(counts)} instances resolved at least once, {sum(counts)} rollouts in all; {caps} of an instance."
