"""What a reader makes of one source, before the sources are joined."""

from __future__ import annotations

import dataclasses

from ._values import Faults
from ._votes import BadRow, Floats, Ints, Names, Source


@dataclasses.dataclass
class Part:
    """The good rows of one source, numbered by the shared names."""

    source: Source
    line: Ints
    item: Ints
    annotator: Ints
    label: Ints | None
    probabilities: Floats | None
    classes: list[str]  # of the probabilities' columns
    weight: Floats | None
    time: Floats | None
    gold: dict[str, str] = dataclasses.field(default_factory=dict)
    predictions: dict[str, Floats] = dataclasses.field(default_factory=dict)


class Collector:
    """Names of items, annotators and labels shared by all sources, and the rows left out."""

    def __init__(self) -> None:
        self.items = Names()
        self.annotators = Names()
        self.labels = Names()
        self.bad_rows: list[BadRow] = []

    def reject(self, source: str, line: Ints, faults: Faults) -> None:
        """Note the rows with faults."""
        self.bad_rows += [BadRow(source, int(line[i]), why) for i, why in faults.items()]
