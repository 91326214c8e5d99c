"""Pass@k and Best@k of one attempts table, with 95 % intervals over instances.

In: a CSV with `instance_id, run, resolved` (1, 0, or empty: no verdict) and optionally `score` and `outcome`.
Out: a CSV on stdout, one row per k, rates between 0 and 1. Nothing here reads another artifact.
"""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from swedag.errors import SwedagError
from swedag.metrics.curves import Estimator, Variant, curve, differences, most_attempts, parse_ks
from swedag.metrics.reading import Missing, read_attempts


def main(
    attempts: Annotated[Path, typer.Argument(help="CSV with instance_id, run, resolved and optionally score, outcome")],
    k: Annotated[str, typer.Option(help="numbers of attempts, as in `1-16` or `1,2,4-8`; by default all")] = "",
    estimator: Annotated[
        Estimator,
        typer.Option(help="closed: exact; paper: 100 seeded shuffles, the interval is mean ± their std"),
    ] = "closed",
    variant: Annotated[
        Variant,
        typer.Option(help="of the paper's estimator. openhands: k=1 is the first run; moatless: a new shuffle per k"),
    ] = "openhands",
    missing: Annotated[
        Missing, typer.Option(help="an attempt without a verdict counts as unresolved (fail) or is left out (exclude)")
    ] = "fail",
    seed: Annotated[int, typer.Option(min=0, help="of the bootstrap and of the paper's shuffles")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="bootstrap samples of instances")] = 10_000,
    baseline: Annotated[
        Path | None, typer.Option(help="another attempts CSV: print the paired differences ATTEMPTS - BASELINE instead")
    ] = None,
) -> None:
    """Pass@k and Best@k with 95 % bootstrap intervals over instances, as CSV on stdout.

    An instance with fewer than k attempts is estimated with all it has and counted in n_short. Equal scores share the
    choice equally; missing scores rank below every score. Without a score column the best_ columns are empty.
    """
    if baseline and estimator == "paper":
        raise SwedagError("--baseline: paired differences are computed in closed form; leave out --estimator paper")
    table = read_attempts(attempts)
    other = read_attempts(baseline) if baseline else None
    ks = parse_ks(k) if k else list(range(1, max(most_attempts(table), most_attempts(other or table)) + 1))
    if other is not None:
        rows = differences(table, other, ks, missing=missing, seed=seed, resamples=resamples)
    else:
        rows = curve(table, ks, estimator=estimator, variant=variant, missing=missing, seed=seed, resamples=resamples)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    typer.echo(out.getvalue(), nl=False)
