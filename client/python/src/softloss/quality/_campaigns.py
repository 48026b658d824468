"""Campaigns on a server: fed from anywhere, analysed at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _softloss
from ._native import AnalysisOptions
from ._quality import Quality
from ._schema import METHODS, analysis_of
from ._votes import Floats, InputError, VoteTable

#: Votes a call hands over at once.
_ROWS = 50_000


@dataclasses.dataclass(frozen=True)
class Fed:
    """What became of the rows of a feed.

    Attributes:
        accepted: rows that are new.
        duplicates: rows that were there already, unchanged.
        superseded: votes older than the annotator's vote on that item.
        errors: (row, reason) of the rows that were refused; the others are stored.
    """

    accepted: int
    duplicates: int
    superseded: int
    errors: tuple[tuple[int, str], ...]


class Campaigns:
    """The annotation campaigns of a server that runs with ``--quality_dir``.

    >>> campaigns = Campaigns("unix:/run/softloss.sock")        # doctest: +SKIP
    >>> campaigns.open("birds", ["bunting", "grosbeak"])        # doctest: +SKIP
    >>> campaigns.feed("birds", softloss.quality.read_votes("votes.csv"))  # doctest: +SKIP
    >>> campaigns.analyze("birds", all_items=True).report("birds.html")  # doctest: +SKIP

    Thread-safe; calls block, and may be made while others run. A call that fails because the server
    is away is made again, `max_attempts` times in all: feeding is idempotent. What a call has
    returned from is durable.
    """

    def __init__(self, address: str, *, timeout: float = 10.0, max_attempts: int = 10) -> None:
        self._client = _softloss.QualityClient(address, timeout, max_attempts)

    def open(
        self,
        name: str,
        classes: Sequence[str],
        *,
        close_after_votes: int = 0,
        close_after_seconds: float = 0.0,
    ) -> dict[str, Any]:
        """Create a campaign, or find the one of that name.

        Args:
            name: unique to the caller's tenant.
            classes: names, in the order of probabilities.
            close_after_votes: an item closes with its so-manieth vote; 0 for not by count.
            close_after_seconds: an item closes so long after its first vote; 0 for not by time.

        Raises:
            FailedPreconditionError: it is there with other classes or closing rules.
        """
        return self._client.open_campaign(
            name, list(classes), close_after_votes, close_after_seconds
        )

    def list(self) -> list[dict[str, Any]]:
        """Return all campaigns with their counts."""
        return self._client.list_campaigns()

    def delete(self, name: str) -> None:
        """Delete a campaign for good."""
        self._client.delete_campaign(name)

    def feed(self, name: str, votes: VoteTable, *, vote_ids: Sequence[str] | None = None) -> Fed:
        """Store votes. Of several of an annotator on an item the latest counts.

        Args:
            name: the campaign.
            votes: whose classes must be the campaign's.
            vote_ids: an id a row of `votes`, which decides between votes of the same time.
        """
        campaign = self._find(name)
        votes = votes.with_classes(campaign["classes"])
        if vote_ids is not None and len(vote_ids) != len(votes):
            raise InputError(
                f"vote_ids: must have an id a vote ({len(votes)}); has {len(vote_ids)}",
                field="vote_ids",
            )
        total = Fed(0, 0, 0, ())
        for begin in range(0, len(votes), _ROWS):
            rows = slice(begin, begin + _ROWS)
            report = self._client.feed_votes(
                name,
                [votes.items[i] for i in votes.item[rows]],
                [votes.annotators[r] for r in votes.annotator[rows]],
                None if votes.label is None else votes.label[rows],
                None if votes.probabilities is None else votes.probabilities[rows],
                None if votes.weight is None else votes.weight[rows],
                None if votes.time is None else votes.time[rows],
                None if vote_ids is None else list(vote_ids[rows]),
            )
            total = _added(total, report, begin)
        return total

    def feed_predictions(self, name: str, items: Sequence[str], probabilities: Floats) -> Fed:
        """Store a model's probabilities [n, K] for n items; the last of an item counts."""
        return self._feed_items(name, False, items, probabilities)

    def feed_gold(self, name: str, items: Sequence[str], answers: Any) -> Fed:
        """Store true answers: probabilities [n, K], or class ids [n]."""
        return self._feed_items(name, True, items, answers)

    def close_items(self, name: str, items: Sequence[str] = ()) -> int:
        """Close items, or all that have a vote; returns how many."""
        return self._client.close_items(name, list(items))

    def analyze(
        self, name: str, *, all_items: bool = False, options: AnalysisOptions | None = None
    ) -> Quality:
        """Analyse a campaign as it is now.

        Args:
            name: the campaign.
            all_items: open items too, not only closed ones.
            options: how to analyse; `threads` is the server's affair.
        """
        chosen = options or AnalysisOptions()
        if chosen.method not in METHODS:
            raise InputError(
                f"method: must be one of {', '.join(METHODS)}; was {chosen.method!r}",
                field="method",
            )
        fields = dataclasses.asdict(chosen)
        del fields["threads"]
        fields["method"] = METHODS.index(chosen.method)
        fields["class_values"] = [float(v) for v in chosen.class_values]
        items, annotators, classes, columns = self._client.analyze(
            name, all_items=all_items, **fields
        )
        analysis = analysis_of(columns, items, annotators, classes, chosen)
        analysis["options"] = dataclasses.asdict(chosen)
        return Quality(analysis, columns["item.posterior"])

    def _find(self, name: str) -> dict[str, Any]:
        for campaign in self.list():
            if campaign["name"] == name:
                return campaign
        raise InputError(f"campaign: there is no {name!r}", field="campaign")

    def _feed_items(self, name: str, gold: bool, items: Sequence[str], values: Any) -> Fed:
        array = np.asarray(values)
        ids = array.ndim == 1
        array = np.ascontiguousarray(array, np.int32 if ids else np.float64)
        total = Fed(0, 0, 0, ())
        for begin in range(0, len(items), _ROWS):
            rows = slice(begin, begin + _ROWS)
            report = self._client.feed_items(
                name,
                gold,
                [str(item) for item in items[rows]],
                array[rows] if ids else None,
                None if ids else array[rows],
            )
            total = _added(total, report, begin)
        return total


def _added(total: Fed, report: dict[str, Any], begin: int) -> Fed:
    return Fed(
        total.accepted + report["accepted"],
        total.duplicates + report["duplicates"],
        total.superseded + report["superseded"],
        (*total.errors, *((begin + row, reason) for row, reason in report["errors"])),
    )
