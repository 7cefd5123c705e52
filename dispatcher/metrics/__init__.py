"""Metrics for Prometheus: what there is (`catalogue`), and what a run gives (`collector`)."""

from dispatcher.metrics.catalogue import LABELS, METRICS, Kind, Metric, reference
from dispatcher.metrics.collector import RunCollector, registry

__all__ = ["LABELS", "METRICS", "Kind", "Metric", "RunCollector", "reference", "registry"]
