"""What every benchmark reports: our speed beside a baseline's, from the same run."""

from collections.abc import Sequence
from statistics import median, quantiles

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over rounds in which ours and the baseline took turns. Latencies are ours."""

    name: str
    ours_per_second: float
    baseline_per_second: float
    ratio: float
    p50_ms: float
    p99_ms: float


def result(
    name: str, ours: Sequence[float], baseline: Sequence[float], latencies: Sequence[float]
) -> Result:
    """Sum up rounds: events per second of each, and the latencies of ours in seconds."""
    cuts = quantiles(latencies, n=100) if len(latencies) > 1 else [*latencies] * 99
    return Result(
        name=name,
        ours_per_second=median(ours),
        baseline_per_second=median(baseline),
        ratio=median([mine / plain for mine, plain in zip(ours, baseline, strict=True)]),
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
    )
