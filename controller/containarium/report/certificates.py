"""When certificates end, as a metric: told from the index that ``containarium cert`` keeps beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LARGEST = 4 << 20


class CertificateDates(Collector):
    """Reads the index whenever somebody asks; nothing of X.509 is needed for it."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def collect(self) -> Iterator[Metric]:
        """A series per certificate that is in use and not revoked; none where there are no certificates."""
        family = GaugeMetricFamily(
            "containarium_certificate_expiry_timestamp_seconds",
            "When a certificate of the API ends, by kind (ca, server, client) and name.",
            labels=("kind", "name"),
        )
        for kind, name, until in self._entries():
            family.add_metric((kind, name), until)
        yield family

    def _entries(self) -> list[tuple[str, str, float]]:
        try:
            with self._index.open("rb") as file:
                entries = json.loads(file.read(_LARGEST))
            return [
                (str(e["kind"]), str(e["name"]), datetime.fromisoformat(e["not_after"]).timestamp())
                for e in entries
                if e["current"] and e["revoked"] is None
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return []
