"""Runs of the load generator: one, or a sweep of rates."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any, Literal

from .. import _softloss
from .._softloss import __version__
from ._items import Item

ArrivalKind = Literal["closed", "uniform", "poisson"]
#: Seconds gone, and requests completed.
Progress = Callable[[float, int], object]


@dataclasses.dataclass(frozen=True)
class Results:
    """What came of a run: plain numbers. Times are in milliseconds, from when a request was due.

    Attributes:
        load: the options of the run.
        found: ``items`` (one a kind: ``sent``, ``succeeded``, ``wrong``, ``failed`` by code,
            ``items_per_second`` of successes within the measured time, bytes a second and
            ``latency_ms``), ``server_stages_ms`` (means, as the server tells), ``send_lag_ms`` (how
            late requests were sent), ``unsent``, ``client_cores``, ``machine_busy``,
            ``client_limit`` (why this process and not the server is the bottleneck, or empty), ….
    """

    load: dict[str, Any]
    found: dict[str, Any]

    @property
    def items_per_second(self) -> float:
        """Successes a second, of all kinds."""
        return float(sum(kind["items_per_second"] for kind in self.found["items"]))

    @property
    def bytes_per_second(self) -> float:
        """Of predictions and labels that were answered."""
        return float(sum(kind["request_bytes_per_second"] for kind in self.found["items"]))

    @property
    def all_right(self) -> bool:
        """Whether no answer was wrong, and none was missing."""
        return all(not kind["wrong"] and not kind["failed"] for kind in self.found["items"])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return {"load": self.load, **self.found}


def run(
    address: str,
    items: Sequence[Item],
    *,
    arrivals: ArrivalKind = "closed",
    rate: float = 0.0,
    in_flight: int = 16,
    most_in_flight: int = 10_000,
    warmup: float = 1.0,
    duration: float = 10.0,
    timeout: float = 30.0,
    seed: int = 1,
    channels: int = 0,
    check_every: int = 16,
    shared_memory: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Send a load to a server, and measure what comes back.

    Args:
        address: a gRPC target.
        items: what to send; each request is of one kind, drawn by weight.
        arrivals: ``"closed"`` keeps `in_flight` requests in flight. ``"uniform"`` and ``"poisson"``
            send at a `rate` whatever comes back, and count latency from when a request was due, so
            that a server that stands still is not excused (no coordinated omission).
        rate: requests a second, of open loops.
        in_flight: of closed loops.
        most_in_flight: where open loops hold requests back; they are late then, and it counts.
        warmup: seconds before the measured time.
        duration: seconds that are measured.
        timeout: seconds of one request.
        seed: of tensors, arrivals and mix.
        channels: connections, with a thread each; 0, as many as help.
        check_every: compare each value of so many-th a gradient with what this process computed (0:
            none). Every loss is compared.
        shared_memory: send the tensors by shared memory; an error if the server has none.
        progress: called ten times a second.

    Raises:
        SoftlossError: the server cannot be reached, or an option is out of range.
            What fails later is counted.
    """
    load: dict[str, Any] = {
        "arrivals": arrivals,
        "rate": float(rate),
        "in_flight": in_flight,
        "most_in_flight": most_in_flight,
        "warmup": float(warmup),
        "duration": float(duration),
        "timeout": float(timeout),
        "seed": seed,
        "channels": channels,
        "check_every": check_every,
        "shared_memory": shared_memory,
    }
    found = _softloss.run_load(
        address, [item.native() for item in items], progress=progress, **load
    )
    load["address"] = address
    load["items"] = [dataclasses.asdict(item) for item in items]
    return Results(load, found)


def sweep(
    address: str,
    items: Sequence[Item],
    *,
    fractions: Sequence[float] = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1),
    progress: Callable[[str], Progress] | None = None,
    **options: Any,
) -> list[Results]:
    """Find the most that a closed loop moves, then send Poisson loads at fractions of it.

    Args:
        address: a gRPC target.
        items: as for `run`.
        fractions: of the closed loop's rate.
        progress: given a run's title, returns what is called as the run goes on.
        options: as for `run`; `arrivals` and `rate` are the sweep's own.

    Returns:
        The closed loop's results, then those of each fraction.
    """

    def told(title: str) -> Progress | None:
        return None if progress is None else progress(title)

    out = [run(address, items, arrivals="closed", progress=told("closed loop"), **options)]
    peak = out[0].items_per_second
    for fraction in fractions if peak > 0 else ():
        title = f"{fraction:.0%} of {peak:,.0f}/s"
        out.append(
            run(
                address, items, arrivals="poisson", rate=fraction * peak, progress=told(title),
                **options,
            )
        )  # fmt: skip
    return out


def to_json(results: Sequence[Results]) -> str:
    """Return runs as JSON, with where and when they were measured."""
    return json.dumps(
        {
            "schema": "softloss.bench/1",
            "version": __version__,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "host": {"cores": os.cpu_count(), "machine": platform.machine()},
            "runs": [result.to_dict() for result in results],
        },
        indent=1,
    )
