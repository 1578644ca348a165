"""Prometheus metrics of a live session. The only module that imports `prometheus_client`, which is an extra.

`METRICS` lists them; docs/howto/monitoring.md shows the same list. Values are those of `LiveStatus` at the time of the
scrape; the source is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from engine import __version__
from engine.runtime.live import LiveSession
from engine.runtime.live_status import LiveStatus

PREFIX = "session_engine_"
STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
Samples = list[tuple[str, float | None]]  # (label, value); None: no sample


class MetricOfStatus(NamedTuple):
    """A metric that is read from a `LiveStatus`.

    Attributes
    ----------
    name : str
        Without prefix and without `_total`.
    kind : {"counter", "gauge"}
    text : str
    label : str
        Name of its label; empty: none.
    samples : callable
        Label values and values of a status.
    """

    name: str
    kind: str
    text: str
    label: str
    samples: Callable[[LiveStatus], Samples]


def one(value: Callable[[LiveStatus], float | None]) -> Callable[[LiveStatus], Samples]:
    """Samples of a metric without a label."""
    return lambda status: [("", value(status))]


METRICS = (
    MetricOfStatus("rows", "counter", "Rows appended, each once, duplicates and corrections too", "", one(lambda s: s.rows)),
    MetricOfStatus("duplicates", "counter", "Rows that were there already with the same values", "", one(lambda s: s.duplicates)),
    MetricOfStatus("corrections", "counter", "Rows that replaced one with other values", "", one(lambda s: s.corrections)),
    MetricOfStatus("rejects", "gauge", "Rejected rows that the store holds", "", one(lambda s: s.rejects)),
    MetricOfStatus("derived_bars", "counter", "Derived bars that were new or changed", "", one(lambda s: s.derived)),
    MetricOfStatus("steps", "counter", "Steps of the session", "", one(lambda s: s.steps)),
    MetricOfStatus("last_step_seconds", "gauge", "Duration of the last step, its export included", "", one(lambda s: s.step_seconds)),
    MetricOfStatus("revisions", "counter", "Revisions written to the export by this process", "", one(lambda s: s.exports)),
    MetricOfStatus("revision", "gauge", "Number of the last revision that this process wrote", "", one(lambda s: s.revision)),
    MetricOfStatus("errors", "counter", "Errors of backfills, exports, consumers and of closing", "", one(lambda s: s.errors)),
    MetricOfStatus("symbols", "gauge", "Symbols of the session", "", one(lambda s: s.symbols)),
    MetricOfStatus("gaps", "gauge", "Gaps of base bars in the current session", "state", lambda s: list(s.gaps.items())),
    MetricOfStatus("missing_slots", "gauge", "Missing slots of base bars in the current session", "", one(lambda s: s.missing)),
    MetricOfStatus("gap_retries", "gauge", "Retries made for the gaps of the current session", "", one(lambda s: s.retries)),
    MetricOfStatus("history_requests", "counter", "Requests of the past after the start", "outcome", lambda s: list(s.history_requests.items())),
    MetricOfStatus("lag_seconds", "gauge", "How late the last row came, by its own stamp", "", one(lambda s: s.source.lag_seconds)),
    MetricOfStatus("last_bar_age_seconds", "gauge", "Time since the end of the newest base bar", "", one(lambda s: s.last_bar_age_seconds)),
    MetricOfStatus("source_connected", "gauge", "1 while the source is connected", "", one(lambda s: s.source.connected)),
    MetricOfStatus("source_reconnects", "counter", "Connections after the first one", "", one(lambda s: s.source.reconnects)),
    MetricOfStatus("source_waiting_rows", "gauge", "Rows that came and are not taken yet", "", one(lambda s: s.source.waiting)),
    MetricOfStatus("source_dropped_rows", "counter", "Rows that did not fit into the queue; never bars", "kind", lambda s: list(s.source.dropped.items())),
    MetricOfStatus("session_open", "gauge", "1 while a session is open", "", one(lambda s: s.is_open)),
    MetricOfStatus("next_session_timestamp_seconds", "gauge", "Open of the session that is open, or of the next one", "", one(lambda s: None if s.opens is None else s.opens.timestamp())),
    MetricOfStatus("stalled", "gauge", "1 while a step is overdue", "", one(lambda s: s.stalled_seconds is not None)),
)  # fmt: skip


class LiveMetrics(Collector):
    """Registry of a live session's metrics, with `step_seconds` (a histogram), those of the process and the version.

    Parameters
    ----------
    live : LiveSession
        Gets a consumer that observes the steps.
    """

    def __init__(self, live: LiveSession) -> None:
        self._live = live
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        steps = Histogram(
            PREFIX + "step_seconds",
            "Duration of a step, its export included",
            registry=self._registry,
            buckets=STEP_BUCKETS,
        )
        live.consumers.append(lambda *_: steps.observe(live.step_seconds))

    def collect(self) -> Iterable[Metric]:
        """Yield each metric of `METRICS` as it is now, and the version."""
        yield from metrics_of(LiveStatus.of(self._live))

    def describe(self) -> Iterable[Metric]:
        """Return no metric: names are not checked against a first scrape."""
        return []

    def page(self, accepted: str) -> tuple[bytes, str]:
        """(text of all metrics, its content type) in the format that an Accept header prefers."""
        encode, content_type = choose_encoder(accepted)
        return encode(self._registry), content_type


def metrics_of(status: LiveStatus) -> Iterator[Metric]:
    """Yield each metric of `METRICS` with the values of a status, and the version; no sample where there is no value."""
    for metric in METRICS:
        labels = [metric.label] if metric.label else []
        family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
            PREFIX + metric.name, metric.text, labels=labels
        )
        for label, value in metric.samples(status):
            if value is not None:
                family.add_metric([label] if labels else [], float(value))
        yield family
    version = GaugeMetricFamily(PREFIX + "build_info", "Version of session-engine", labels=["version"])
    version.add_metric([__version__], 1.0)
    yield version
