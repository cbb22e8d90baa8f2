"""A process whose metrics are scraped."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.ledger import Bench
from worker.metrics.readers import NEVER
from worker.metrics.system import SystemMetrics

Samples = dict[str, float]


class Scraper:
    """Scrapes the metrics of the system; no figures are reused."""

    def __init__(self, metrics: SystemMetrics) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(metrics)

    def text(self) -> str:
        return generate_latest(self._registry).decode()

    def __call__(self) -> Samples:
        """Return the samples by name and labels, written as in the text."""
        samples: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples


@contextmanager
def scraper_on(bench: Bench) -> Iterator[Scraper]:
    metrics = SystemMetrics(bench.connections, reuse=NEVER, reuse_identities=NEVER)
    yield Scraper(metrics)
    metrics.close()
