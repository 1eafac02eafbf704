"""Prometheus metrics: requests as they are answered, the rest as it is when asked."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Gauges = Callable[[], Mapping[str, float]]
"""Current values by metric name, without the prefix `hooktape_`."""

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Series:
    """Requests of one method and path."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.seconds = 0.0
        self.statuses: dict[int, int] = {}


class Metrics(Collector):
    """Counts in plain numbers, for the event loop alone: a lock per request would cost more."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._series: dict[tuple[str, str], _Series] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request. `path` is the route's template, so series stay few."""
        key = (method if method in _METHODS else "other", path)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        series.buckets[bisect_left(_BOUNDS, seconds)] += 1
        series.seconds += seconds
        series.statuses[status] = series.statuses.get(status, 0) + 1

    @property
    def requests(self) -> int:
        """How many requests were answered since the start."""
        return sum(sum(series.buckets) for series in self._series.values())

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text that Prometheus reads, in the format `accept` prefers, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        requests = CounterMetricFamily(
            "hooktape_http_requests",
            "Answered requests.",
            labels=["method", "path", "status"],
        )
        seconds = HistogramMetricFamily(
            "hooktape_http_request_seconds",
            "From the arrival of a request to the end of its answer.",
            labels=["method", "path"],
        )
        for (method, path), series in self._series.items():
            for status, count in series.statuses.items():
                requests.add_metric([method, path, str(status)], count)
            seconds.add_metric([method, path], _cumulated(series.buckets), series.seconds)
        yield requests
        yield seconds
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"hooktape_{name}", name.replace("_", " "), value=value)


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    cumulated: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
        total += count
        cumulated.append((bound, total))
    return cumulated
