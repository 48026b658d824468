"""Latency against throughput, as a PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .._errors import InvalidArgumentError
from ._run import Results

PERCENTILES = ("p50", "p90", "p99", "p99.9")


def plot(results: Sequence[Results], path: str | os.PathLike[str]) -> None:
    """Draw open-loop runs: a curve a percentile, a panel a kind of item.

    A closed loop among them is drawn as the line that none of them passes.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidArgumentError(
            "plot: needs the package matplotlib (pip install 'softloss[bench]')", field="plot"
        ) from None
    closed = [r for r in results if r.load["arrivals"] == "closed"]
    opened = [r for r in results if r.load["arrivals"] != "closed"]
    shown = opened or closed
    kinds = len(shown[0].found["items"])
    figure = Figure(figsize=(7, 4.2 * kinds), dpi=120, layout="constrained")
    for k, axes in enumerate(figure.subplots(kinds, 1, squeeze=False)[:, 0]):
        rate = [r.found["items"][k]["items_per_second"] for r in shown]
        for percentile in PERCENTILES:
            latency = [r.found["items"][k]["latency_ms"][percentile] for r in shown]
            axes.plot(rate, latency, marker="o", label=percentile)
        for result in closed if opened else ():
            peak = result.found["items"][k]["items_per_second"]
            axes.axvline(peak, color="0.5", linestyle="--", label="closed loop")
        limited = [i for i, r in enumerate(shown) if r.found["client_limit"]]
        if limited:
            axes.scatter(
                [rate[i] for i in limited],
                [shown[i].found["items"][k]["latency_ms"]["p99"] for i in limited],
                marker="x", s=90, color="black", zorder=3, label="limited by the client",
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("answered, items a second")
        axes.set_ylabel("latency, ms")
        axes.set_title(shown[0].found["items"][k]["name"])
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path)
