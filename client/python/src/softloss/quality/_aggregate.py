"""Many people's votes to one answer, by the method of your choice."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

import numpy as np

from .. import _softloss
from ._native import native_votes, rows
from ._outputs import write_consensus
from ._quality import prepare
from ._reader import read_votes
from ._votes import Floats, InputError, VoteTable

Aggregator = Literal["majority", "wawa", "one_coin", "dawid_skene", "crowdlab"]
_METHODS = ("majority", "wawa", "one_coin", "dawid_skene", "crowdlab")


@dataclasses.dataclass(frozen=True, eq=False)
class Consensus:
    """What many people's votes come to.

    Attributes:
        method: how it was found.
        items: names of the rows of `posterior`.
        annotators: names of the entries of `skill`.
        classes: names of the columns of `posterior`.
        posterior: float64 [items, K], each row a distribution: soft labels.
        skill: float64 [annotators], the method's own figure; NaN for one without votes.
        prior: float64 [K] of the classes, where the method has one.
        confusion: float64 [annotators, K, K] of Dawid-Skene: P(vote | true class) in rows.
        log_likelihood: of each iteration of EM; it never falls.
        converged: whether EM ended before its iterations ran out.
    """

    method: str
    items: list[str]
    annotators: list[str]
    classes: list[str]
    posterior: Floats
    skill: Floats
    prior: Floats | None = None
    confusion: Floats | None = None
    log_likelihood: Floats | None = None
    converged: bool = True

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each item, the first of equals."""
        return [self.classes[k] for k in self.posterior.argmax(1).tolist()]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the soft labels as .safetensors or .parquet."""
        write_consensus(path, self.items, self.classes, self.posterior)

    def update(
        self, votes: Any, *, gold: Any = None, max_iterations: int = 5, **options: Any
    ) -> Consensus:
        """Fit Dawid-Skene to a table that has grown, from this model on: a few iterations do.

        Args:
            votes: all votes, old and new: what `aggregate` takes. New annotators may be among them.
            gold: as for `aggregate`.
            max_iterations: at most.
            options: `smoothing` and the others of `aggregate`.
        """
        table, answers = _prepared(votes, gold, self.classes)
        prior, confusion = self._model(table)
        fit = _softloss.quality_dawid_skene(
            native_votes(table),
            gold=rows(answers),
            start_prior=prior,
            start_confusion=confusion,
            max_iterations=max_iterations,
            **options,
        )
        return _consensus("dawid_skene", table, fit)

    def posterior_of(self, votes: Any, *, threads: int = 0) -> Floats:
        """Return float64 [items, K] of other items under this model, which stays as it is.

        Annotators whom it does not know count for nothing. The items are in the order of
        ``read_votes(votes).items``.
        """
        table, _ = _prepared(votes, None, self.classes)
        prior, confusion = self._model(table)
        found = _softloss.quality_dawid_skene_posterior(
            native_votes(table), prior=prior, confusion=confusion, threads=threads
        )
        return found["posterior"]

    def _model(self, table: VoteTable) -> tuple[Floats, Floats]:
        """The prior, and the matrices of the table's annotators; NaN of those it does not know."""
        if self.prior is None or self.confusion is None:
            raise InputError(f"method: must be 'dawid_skene'; was {self.method!r}", field="method")
        k = len(self.classes)
        confusion = np.full((len(table.annotators), k, k), np.nan)
        known = {name: r for r, name in enumerate(self.annotators)}
        for r, name in enumerate(table.annotators):
            if name in known:
                confusion[r] = self.confusion[known[name]]
        return self.prior, confusion


def aggregate(
    votes: Any,
    method: Aggregator = "dawid_skene",
    *,
    predictions: Any = None,
    gold: Any = None,
    threads: int = 0,
    **options: Any,
) -> Consensus:
    """Aggregate votes, hard or soft, to one distribution an item.

    Args:
        votes: a `VoteTable`, or what `read_votes` takes.
        method: ``"majority"``, ``"wawa"``, ``"one_coin"``, ``"dawid_skene"`` or ``"crowdlab"``.
        predictions: a model's, for CROWDLAB; as for `analyze`.
        gold: known answers, for one-coin and Dawid-Skene; as for `analyze`.
        threads: how many threads share the work; 0 for one a core. They change no bit.
        options: of one-coin and Dawid-Skene `tolerance` (of the likelihood's rise, relative; 0 runs
            all iterations) and `max_iterations`; of Dawid-Skene `smoothing` and `prior_smoothing`
            (added to each cell of a matrix, and to each class of the prior).

    Raises:
        InputError: something cannot be read, or does not go with the method.
        SoftlossError: votes, predictions or an option are out of range.
    """
    if method not in _METHODS:
        raise InputError(
            f"method: must be one of {', '.join(_METHODS)}; was {method!r}", field="method"
        )
    allowed = {
        "one_coin": {"tolerance", "max_iterations"},
        "dawid_skene": {"tolerance", "max_iterations", "smoothing", "prior_smoothing"},
    }.get(method, set())
    if unknown := sorted(set(options) - allowed):
        raise InputError(f"{unknown[0]}: is no option of {method}", field=unknown[0])
    if predictions is not None and method != "crowdlab":
        raise InputError(f"predictions: go with crowdlab, not {method}", field="predictions")
    if gold is not None and method not in ("one_coin", "dawid_skene"):
        raise InputError(f"gold: goes with one_coin and dawid_skene, not {method}", field="gold")
    table = votes if isinstance(votes, VoteTable) else read_votes(votes)
    prepared = prepare(table, predictions, gold)
    table = prepared.votes
    if method == "crowdlab":
        options["predictions"] = rows(prepared.predictions)
    elif gold is not None:
        options["gold"] = rows(prepared.gold)
    function = getattr(_softloss, f"quality_{method}")
    return _consensus(method, table, function(native_votes(table), threads=threads, **options))


def _prepared(votes: Any, gold: Any, classes: list[str]) -> tuple[VoteTable, Floats | None]:
    table = votes if isinstance(votes, VoteTable) else read_votes(votes, classes=classes)
    prepared = prepare(table.with_classes(classes), None, gold)
    return prepared.votes, prepared.gold


def _consensus(method: str, table: VoteTable, fit: dict[str, Any]) -> Consensus:
    return Consensus(
        method=method,
        items=list(table.items),
        annotators=list(table.annotators),
        classes=list(table.classes),
        posterior=fit["posterior"],
        skill=fit["skill"],
        prior=fit.get("prior"),
        confusion=fit.get("confusion"),
        log_likelihood=fit.get("log_likelihood"),
        converged=bool(fit.get("converged", True)),
    )
