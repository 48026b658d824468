"""Limits of the caller's, and whether an analysis keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._format import known, number

#: The figures of annotators, of the whole and of the model that `fails_under` knows.
ANNOTATOR_METRICS = (
    "quality",
    "agreement_consensus",
    "agreement_peers",
    "agreement_gold",
    "agreement_model",
)
AGREEMENT_METRICS = (
    "alpha_nominal",
    "alpha_ordinal",
    "alpha_interval",
    "alpha_soft",
    "fleiss_kappa",
    "cohen_kappa",
    "percent",
)


def fails_under(analysis: Mapping[str, Any], limits: Mapping[str, float]) -> list[str]:
    """Return a sentence for each limit that an analysis fails.

    Args:
        analysis: the analysis.
        limits: the least value by figure. A figure of agreement (``alpha_nominal``, …) fails when
            it is under its limit or undefined; one of annotators (``quality``,
            ``agreement_consensus``, …) for each annotator whose whole interval is under it.

    Raises:
        ValueError: a figure has another name.
    """
    failed = []
    for metric, limit in limits.items():
        if metric in AGREEMENT_METRICS:
            value = analysis["agreement"][metric]
            if not known(value):
                failed.append(f"{metric} is not defined here; must be at least {limit:g}")
            elif value < limit:
                failed.append(f"{metric} is {number(value, 4)}; must be at least {limit:g}")
        elif metric in ANNOTATOR_METRICS:
            for person in analysis["annotator"]:
                figure = person[metric]
                if figure is not None and known(figure["high"]) and figure["high"] < limit:
                    failed.append(
                        f"{metric} of {person['name']} is {number(figure['value'], 4)} "
                        f"({number(figure['low'], 4)} to {number(figure['high'], 4)}); "
                        f"must reach {limit:g}"
                    )
        else:
            names = ", ".join([*AGREEMENT_METRICS, *ANNOTATOR_METRICS])
            raise ValueError(f"fail_under: must be one of {names}; was {metric!r}")
    return failed
