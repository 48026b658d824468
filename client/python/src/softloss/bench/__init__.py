"""A load generator for any softloss server, and what it measures.

>>> from softloss.bench import Item
>>> Item.of_size("8KiB").shape
(16, 64)
"""

from ._items import Item, parse_bytes
from ._plot import plot
from ._run import Results, run, sweep

__all__ = ["Item", "Results", "parse_bytes", "plot", "run", "sweep"]
