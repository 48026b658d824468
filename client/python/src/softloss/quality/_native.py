"""The compiled analysis: votes in, named columns out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _softloss
from ._votes import Floats, VoteTable

Method = Literal["auto", "majority", "wawa", "one_coin", "dawid_skene", "crowdlab"]


@dataclasses.dataclass(frozen=True)
class AnalysisOptions:
    """How to analyse, and when to alert.

    Attributes:
        method: which posterior is the consensus; ``"auto"`` is CROWDLAB with predictions and
            Dawid-Skene without.
        class_values: the classes on an interval scale, for the interval alpha; by default 0, 1, …
        bootstrap_replicates: for the intervals of figures that are no shares; 0 for none.
        worklist_items: how many items the worklist has at most.
        drift_windows: how many windows of time an annotator has at most.
        calibrate_predictions: scale predictions by the temperature that fits the votes best, before
            all else: a model that is surer than the people is made as unsure as they are.
        min_agreement: an annotator whose interval of agreement with gold (or, without, with the
            others' consensus) lies wholly under it raises an alert.
        min_votes: annotators with fewer votes raise no alert.
        spammer_score: a score under it raises an alert.
        collapse_share: more than this share of votes in one class raises an alert, …
        collapse_excess: … if it is also so much more than the items' consensus has.
        threads: how many threads share the work; 0 for one a core. They change no bit.
    """

    method: Method = "auto"
    class_values: Sequence[float] = ()
    bootstrap_replicates: int = 200
    worklist_items: int = 1000
    drift_windows: int = 10
    calibrate_predictions: bool = False
    min_agreement: float = 0.5
    min_votes: float = 20
    spammer_score: float = 0.05
    collapse_share: float = 0.9
    collapse_excess: float = 0.3
    threads: int = 0


def analyze(
    votes: VoteTable,
    predictions: Floats | None,
    gold: Floats | None,
    options: AnalysisOptions,
) -> Mapping[str, npt.NDArray[Any]]:
    """Analyse votes in this process.

    Args:
        votes: the votes.
        predictions: [items, K]; rows of NaN are items without one.
        gold: the same, of answers known to be right.
        options: the method and thresholds.
    """
    chosen = dataclasses.asdict(options)
    chosen["class_values"] = [float(value) for value in options.class_values]
    return _softloss.quality_analyze(
        native_votes(votes), predictions=rows(predictions), gold=rows(gold), **chosen
    )


def native_votes(table: VoteTable) -> _softloss.QualityVotes:
    """Return the votes as the compiled functions take them."""
    return _softloss.QualityVotes(
        num_items=len(table.items),
        num_annotators=len(table.annotators),
        num_classes=len(table.classes),
        item=np.ascontiguousarray(table.item, np.int64),
        annotator=np.ascontiguousarray(table.annotator, np.int32),
        label=None if table.label is None else np.ascontiguousarray(table.label, np.int32),
        probabilities=rows(table.probabilities),
        weight=rows(table.weight),
        time=rows(table.time),
    )


def rows(array: Floats | None) -> Floats | None:
    """Return an array of floats as the compiled functions take it."""
    return None if array is None else np.ascontiguousarray(array, np.float64)
