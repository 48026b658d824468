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
        num_items=len(votes.items),
        num_annotators=len(votes.annotators),
        num_classes=len(votes.classes),
        item=np.ascontiguousarray(votes.item, np.int64),
        annotator=np.ascontiguousarray(votes.annotator, np.int32),
        label=None if votes.label is None else np.ascontiguousarray(votes.label, np.int32),
        probabilities=_rows(votes.probabilities),
        weight=_rows(votes.weight),
        time=_rows(votes.time),
        predictions=_rows(predictions),
        gold=_rows(gold),
        **chosen,
    )


def _rows(array: Floats | None) -> Floats | None:
    return None if array is None else np.ascontiguousarray(array, np.float64)
