"""Renders the results as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.options import PATHS
from benchmarks.targets import targets

_MET = {True: "yes", False: "**no**", None: "-"}


def markdown(results: Mapping[str, Any]) -> str:
    """Return a table for each measurement that has results."""
    parts = [_head(results)]
    if found := targets(results):
        rows = [(each.what, each.wanted, each.measured, _MET[each.met]) for each in found]
        parts += ["## Targets", _table(("what", "wanted", "measured", "met"), rows)]
    if results["rates"]:
        parts += ["## Rates", _rates(results["rates"]), "## Costs of a snapshot", _costs(results["rates"])]
    if results["latency"]:
        parts += ["## Latency, accept to event", _latency(results["latency"])]
    if found := results["busy"]:
        header = ("backfill", "its rate/s", "interactive requests", "p50 ms", "p99 ms", "slowest ms")
        keys = ("backfill", "rate", "interactive", "p50_ms", "p99_ms", "slowest_ms")
        parts += ["## Interactive at 20 a second while a backfill runs", _table(header, [[found[key] for key in keys]])]
    if found := results["sizes"]:
        parts += ["## One conversation", _sizes(found)]
    if found := results["memory"]:
        parts += [f"## Memory after {found['requests']:,} requests, MB", _memory(found)]
    if results["failures"]:
        parts += ["## What failed", *[f"- {each}" for each in results["failures"]]]
    return "\n\n".join(parts) + "\n"


def _head(results: Mapping[str, Any]) -> str:
    machine, servers, workload = results["machine"], results["servers"], results["asked"]
    return f"""# Benchmarks

{machine["cores"]} cores that the servers share, {machine["memory_gb"]} GB, {machine["system"]}; Python \
{machine["python"]}, mongod {servers["mongod"]} (2 GB of cache), valkey {servers["valkey"]} (AOF, everysec). \
{workload["contacts"]:,} conversations of {workload["messages"]} messages of 120 characters in five organizations; \
{workload["rounds"]} rounds, interleaved. Made by `make bench` on {results["date"]}.

How it is measured: [docs/performance.md](../../docs/performance.md)."""


def _rates(rows: Sequence[Mapping[str, Any]]) -> str:
    header = (
        *("", "rate/s", "min to max", "normalised/s", "with accepting/s", "one producer/s"),
        *("x loop", "x bulk", "x fastest peer", "x durable peer", "core speed", "foreign CPU", "runs", "of"),
    )
    body = [
        (
            _strong(row["name"]),
            f"{row['rate']:,.0f}",
            f"{row['lowest']:,.0f} to {row['highest']:,.0f}",
            f"{row['normalised']:,.0f}",
            _number(row["whole_rate"], ",.0f"),
            _number(row["producer_rate"], ",.0f"),
            _number(row["x_loop"], ".2f"),
            _number(row["x_bulk"], ".3f"),
            _number(row["x_peer"], ".2f"),
            _number(row["x_durable"], ".2f"),
            f"{row['core_speed']:.2f}",
            f"{100 * row['foreign']:.0f} %",
            f"{row['runs']}/{row['of_runs']}",
            f"{row['jobs']:,}",
        )
        for row in rows
    ]
    return _table(header, body)


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["cpu_us"]))
    servers = [("mongo", "MongoDB"), ("redis", "Redis")]
    header = [
        *("", "CPU µs"),
        *(f"{name} µs" for name in names),
        *(f"{shown} {what}" for _, shown in servers for what in ("round trips", "bytes in", "bytes out")),
    ]
    body = [
        [
            row["name"],
            f"{row['cpu_us_all']:,.0f}",
            *(_number(row["cpu_us"].get(name), ",.0f") for name in names),
            *(
                _number(row[server].get(key), ".2f" if key == "round_trips" else ",.0f")
                for server, _ in servers
                for key in ("round_trips", "bytes_in", "bytes_out")
            ),
        ]
        for row in rows
    ]
    return _table(header, body)


def _latency(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ("", "a second", "p50 ms", "min to max", "p99 ms", "min to max", "p99 / p50", "runs of")
    body = [
        (
            _strong(row["name"]),
            f"{row['per_second']:g}",
            f"{row['p50_ms']:.1f}",
            "{:.1f} to {:.1f}".format(*row["p50_range"]),
            f"{row['p99_ms']:.1f}",
            "{:.1f} to {:.1f}".format(*row["p99_range"]),
            f"{row['p99_ms'] / row['p50_ms']:.2f}",
            f"{row['runs']} x {row['jobs']:,}",
        )
        for row in rows
    ]
    return _table(header, body)


def _sizes(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ("messages", "ms", "µs a message", "snapshot, bytes", "worker's rise, bytes", "rise / snapshot")
    body = [
        (
            f"{row['messages']:,}",
            f"{row['ms']:.1f}",
            f"{row['us_per_message']:,.0f}",
            f"{row['bytes']:,}",
            _number(row["peak_bytes"], ",d"),
            "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / row['bytes']:.1f}",
        )
        for row in rows
    ]
    return _table(header, body)


def _memory(found: Mapping[str, Any]) -> str:
    header = ("process", "RSS before", "RSS after", "its own before", "its own after")
    body = [
        (name, found["before"][name]["rss_mb"], size["rss_mb"], found["before"][name]["uss_mb"], size["uss_mb"])
        for name, size in found["after"].items()
    ]
    return _table(header, body)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(_lines(header, rows))


def _lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _number(value: float | None, shape: str) -> str:
    return "-" if value is None else format(value, shape)


def _strong(name: str) -> str:
    return f"**{name}**" if name in PATHS else name
