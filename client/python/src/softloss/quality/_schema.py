"""From the columns of the compiled analysis to the schema ``softloss.quality/1``.

docs/quality.md describes both. A figure that is undefined is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._softloss import __version__

if TYPE_CHECKING:
    from ._native import AnalysisOptions

Columns = Mapping[str, npt.NDArray[Any]]

METHODS = ("auto", "majority", "wawa", "one_coin", "dawid_skene", "crowdlab")
REASONS = (
    "the model and the votes are sure of different classes",
    "the annotators disagree",
    "the annotators are each unsure",
    "the model doubts what all annotators say",
    "whoever voted so is often wrong",
)
ALERTS = ("below_threshold", "drift", "spammer", "class_collapse")
#: Matrices of annotators are told up to so many; pairs of more are left to the columns.
MAX_PAIR_ANNOTATORS = 500
CONFUSION_PAIRS = 50

#: Figures of annotators with an interval, and those that need a model.
FIGURES = ("quality", "agreement_consensus", "agreement_peers", "agreement_gold")
MODEL_FIGURES = ("agreement_model", "cross_entropy", "kl", "js", "brier", "tv")
MODEL_COLUMNS = (
    "model_cross_entropy",
    "self_confidence",
    "normalized_margin",
    "confidence_weighted_entropy",
    "adjusted_self_confidence",
    "adjusted_normalized_margin",
    "in_distribution",
    "active_lab",
)
ITEM_COLUMNS = (
    "confidence",
    "label_quality",
    "entropy",
    "mean_entropy",
    "js",
    "agreement",
    "consistency",
    "uncertainty",
)


def _value(number: Any) -> float | None:
    value = float(number)
    return None if math.isnan(value) else value


def _figure(row: Any) -> dict[str, Any] | None:
    value, low, high, n = (_value(x) for x in row)
    return None if value is None else {"value": value, "low": low, "high": high, "n": n}


def _values(array: Any) -> Any:
    """Nested lists, with None for NaN."""
    if isinstance(array, np.ndarray) and array.ndim > 1:
        return [_values(row) for row in array]
    return [_value(x) for x in array]


def _annotators(columns: Columns, names: Sequence[str]) -> list[dict[str, Any]]:
    confusion = columns.get("annotator.confusion")
    out = []
    for r, name in enumerate(names):
        row: dict[str, Any] = {
            "name": name,
            "votes": int(columns["annotator.votes"][r]),
            "weight": _value(columns["annotator.weight"][r]),
        }
        for figure in (*FIGURES, *MODEL_FIGURES):
            row[figure] = _figure(columns[f"annotator.{figure}"][r])
        row["accuracy"] = _value(columns["annotator.accuracy"][r])
        row["spammer_score"] = _value(columns["annotator.spammer"][r])
        row["uncertainty"] = _value(columns["annotator.uncertainty"][r])
        row["class_share"] = _values(columns["annotator.class_share"][r])
        row["confusion"] = None if confusion is None else _values(confusion[r])
        out.append(row)
    return out


def _pairs(columns: Columns, names: Sequence[str], model: bool) -> dict[str, Any] | None:
    if len(names) > MAX_PAIR_ANNOTATORS:
        return None
    people = [*names, "model"] if model else list(names)
    agreement: list[list[float | None]] = [[None] * len(people) for _ in people]
    items = [[0] * len(people) for _ in people]
    for a, b, n, share in zip(
        columns["pair.a"].tolist(),
        columns["pair.b"].tolist(),
        columns["pair.items"].tolist(),
        columns["pair.agreement"].tolist(),
        strict=True,
    ):
        agreement[a][b] = agreement[b][a] = _value(share)
        items[a][b] = items[b][a] = n
    return {"names": people, "agreement": agreement, "items": items}


def _confusion_pairs(confusion: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    off_diagonal = confusion * (1 - np.eye(len(confusion)))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:CONFUSION_PAIRS]
    out = []
    for c, k in zip(*np.unravel_index(order, confusion.shape), strict=True):
        if off_diagonal[c, k] > 0:
            out.append(
                {
                    "consensus": int(c),
                    "vote": int(k),
                    "count": float(confusion[c, k]),
                    "share": float(confusion[c, k] / confusion[c].sum()),
                }
            )
    return out


def _classes(columns: Columns, names: Sequence[str], model: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "votes": float(columns["class.votes"][k]),
            "consensus_items": int(columns["class.consensus_items"][k]),
            "prior": _value(columns["class.prior"][k]),
            "agreement": _value(columns["class.agreement"][k]),
            "threshold": _value(columns["class.self_confidence"][k]),
            "label_issues": int(columns["class.issues"][k]) if model else None,
            "estimated_noise": _value(columns["class.estimated_noise"][k]),
        }
        for k, name in enumerate(names)
    ]


def _calibration(columns: Columns) -> dict[str, Any] | None:
    if "reliability.low" not in columns:
        return None
    fields = ("low", "high", "count", "confidence", "accuracy")
    rows = zip(*(columns[f"reliability.{field}"].tolist() for field in fields), strict=True)
    bins = [
        {field: _value(x) if field != "count" else x for field, x in zip(fields, row, strict=True)}
        for row in rows
    ]
    return {
        "model": {
            "ece_equal_width": _value(columns["reliability.ece_equal_width"][0]),
            "ece_equal_mass": _value(columns["reliability.ece_equal_mass"][0]),
            "temperature": _value(columns["reliability.temperature"][0]),
            "bins": bins,
        }
    }


def _items(columns: Columns, names: Sequence[str], model: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": list(names),
        "votes": columns["item.votes"].tolist(),
        "consensus": [None if c < 0 else c for c in columns["item.consensus"].tolist()],
        "majority": [None if c < 0 else c for c in columns["item.majority"].tolist()],
    }
    for column in ITEM_COLUMNS:
        out[column] = _values(columns[f"item.{column}"])
    for column in MODEL_COLUMNS:
        out[column] = _values(columns[f"item.{column}"]) if model else None
    out["issue"] = columns["item.issue"].astype(bool).tolist() if model else None
    return out


def _worklist(columns: Columns, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "item": names[i],
            "rank": rank,
            "score": float(columns["item.label_quality"][i]),
            "given": int(columns["item.majority"][i]),
            "suggested": int(columns["item.consensus"][i]),
            "confidence": float(columns["item.confidence"][i]),
            "reason": REASONS[reason],
        }
        for rank, (i, reason) in enumerate(
            zip(
                columns["worklist.item"].tolist(), columns["worklist.reason"].tolist(), strict=True
            ),
            1,
        )
    ]


def _drift(columns: Columns, names: Sequence[str]) -> list[dict[str, Any]] | None:
    windows: dict[int, list[dict[str, Any]]] = {}
    for w, annotator in enumerate(columns["drift.annotator"].tolist()):
        figure = _figure(columns["drift.agreement"][w])
        windows.setdefault(annotator, []).append(
            {
                "start": float(columns["drift.start"][w]),
                "end": float(columns["drift.end"][w]),
                "n": figure["n"] if figure else 0,
                "agreement": figure,
            }
        )
    if not windows:
        return None
    return [{"annotator": names[r], "window": window} for r, window in windows.items()]


def _alerts(
    columns: Columns, names: Sequence[str], classes: Sequence[str], options: AnalysisOptions
) -> list[dict[str, Any]]:
    out = []
    for a, kind in enumerate(columns["alert.kind"].tolist()):
        annotator = int(columns["alert.annotator"][a])
        value, low, high, _ = (_value(x) for x in columns["alert.figure"][a])
        threshold = float(columns["alert.threshold"][a])
        gold = columns["annotator.agreement_gold"][annotator]
        by_gold = ALERTS[kind] == "below_threshold" and gold[3] >= options.min_votes
        metric, message = {
            "below_threshold": (
                "agreement_gold" if by_gold else "agreement_consensus",
                f"agreement with {'gold' if by_gold else 'the consensus of the others'} is "
                f"{value:.2f}, and its whole interval is below {threshold:.2f}",
            ),
            "drift": (
                "agreement_consensus",
                f"agreement has fallen to {value:.2f} in the last window; before, it was at least "
                f"{threshold:.2f}",
            ),
            "spammer": ("spammer_score", "the votes hardly depend on what the item is"),
            "class_collapse": (
                "class_share",
                f"{value:.0%} of the votes are for "
                f"{classes[int(np.argmax(columns['annotator.class_share'][annotator]))]!r}, far "
                "more than the consensus of the same items",
            ),
        }[ALERTS[kind]]
        out.append(
            {
                "kind": ALERTS[kind],
                "annotator": names[annotator],
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "threshold": threshold,
                "message": message,
            }
        )
    return out


def _agreement(columns: Columns) -> dict[str, float | None]:
    return {
        name: _value(columns[f"agreement.{name}"][0])
        for name in (
            "alpha_nominal", "alpha_ordinal", "alpha_interval", "alpha_soft", "fleiss_kappa",
            "cohen_kappa", "percent",
        )
    }  # fmt: skip


def _histogram(columns: Columns) -> dict[str, list[Any]]:
    return {"edges": np.linspace(0, 1, 21).tolist(), "count": columns["histogram"].tolist()}


def analysis_of(
    columns: Columns,
    items: Sequence[str],
    annotators: Sequence[str],
    classes: Sequence[str],
    options: AnalysisOptions,
) -> dict[str, Any]:
    """Put an analysis's columns and the names that they number together."""
    votes = columns["item.votes"]
    predictions = int(np.isfinite(columns["item.self_confidence"]).sum())
    model = predictions > 0
    confusion = columns.get("confusion")
    return {
        "schema": "softloss.quality/1",
        "version": __version__,
        "classes": list(classes),
        "annotators": list(annotators),
        "counts": {
            "items": len(items),
            "votes": int(votes.sum()),
            "annotators": len(annotators),
            "items_with_votes": int((votes > 0).sum()),
            "items_with_two_votes": int((votes > 1).sum()),
            "predictions": predictions,
            "gold": int((columns["item.gold"] > 0).sum()),
        },
        "consensus": {
            "method": METHODS[int(columns["method"][0])],
            "skill_name": "quality",
        },
        "annotator": _annotators(columns, annotators),
        "pair": _pairs(columns, annotators, model),
        "confusion": None if confusion is None else confusion.tolist(),
        "confusion_pairs": [] if confusion is None else _confusion_pairs(confusion),
        "class": _classes(columns, classes, model),
        "agreement": _agreement(columns),
        "agreement_histogram": _histogram(columns),
        "calibration": _calibration(columns),
        "item": _items(columns, items, model),
        "worklist": _worklist(columns, items),
        "drift": _drift(columns, annotators),
        "pixels": None,
        "alerts": _alerts(columns, annotators, classes, options),
    }


def summary_of(found: Mapping[str, Any], options: AnalysisOptions) -> dict[str, Any]:
    """Put the figures of merged states into the schema; null is what needs the votes."""
    columns: Columns = found["columns"]
    names, classes = list(found["annotators"]), list(found["classes"])
    model = found["predictions"] > 0
    unknown = dict.fromkeys(
        ("consensus_items", "prior", "agreement", "threshold", "label_issues", "estimated_noise")
    )
    return {
        "schema": "softloss.quality/1",
        "version": __version__,
        "classes": classes,
        "annotators": names,
        "counts": {
            "items": found["items"],
            "votes": found["votes"],
            "annotators": len(names),
            "items_with_votes": found["items"],
            "items_with_two_votes": found["items_with_two_votes"],
            "predictions": found["predictions"],
            "gold": found["gold"],
        },
        "consensus": None,
        "annotator": _annotators(columns, names),
        "pair": _pairs(columns, names, model),
        "confusion": None,
        "confusion_pairs": [],
        "class": [
            {"name": name, "votes": float(columns["class.votes"][k]), **unknown}
            for k, name in enumerate(classes)
        ],
        "agreement": _agreement(columns),
        "agreement_histogram": _histogram(columns),
        "calibration": _calibration(columns),
        "item": None,
        "worklist": [],
        "drift": None,
        "pixels": None,
        "alerts": _alerts(columns, names, classes, options),
        "shards": list(found["shards"]),
    }
