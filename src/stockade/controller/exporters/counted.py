"""What devices without an agent told, as metrics: a series for each device, of which there are 256 at most."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from stockade.controller.exporters.exporters import Exporters

BY = ["exporter"]


def families(exporters: Exporters) -> Iterator[Metric]:
    """Yield what each device said, how much of it is missing, and what came from whom nobody listens to."""
    datagrams = CounterMetricFamily("stockade_exporter_datagrams", "Datagrams that a device sent", labels=BY)
    records = CounterMetricFamily("stockade_exporter_records", "Records that were read of a device", labels=BY)
    flows = CounterMetricFamily("stockade_exporter_flows", "Flows that were made of a device's records", labels=BY)
    unread = CounterMetricFamily("stockade_exporter_unread", "What a device sent and cannot be read", labels=BY)
    heard = GaugeMetricFamily(
        "stockade_exporter_heard_seconds", "When a device was last heard, of the epoch", labels=BY
    )
    # Not a counter: what comes late was counted as lost, and is taken back.
    lost = GaugeMetricFamily("stockade_exporter_lost", "What a device's numbers say that did not arrive", labels=BY)
    for each in exporters.views():
        of = [str(each.address)]
        datagrams.add_metric(of, each.datagrams)
        records.add_metric(of, each.records)
        flows.add_metric(of, each.flows)
        unread.add_metric(of, each.unread)
        heard.add_metric(of, each.heard)
        lost.add_metric(of, each.lost)
    refused = CounterMetricFamily(
        "stockade_exporter_refused", "Datagrams of devices that are not on the list, or of too many", exporters.refused
    )
    yield from (datagrams, records, flows, unread, heard, lost, refused)
