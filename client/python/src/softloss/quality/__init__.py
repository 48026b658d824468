"""Annotation quality: how good are these labels, by annotator, item, class and pixel.

>>> from softloss.quality import read_votes
>>> table = read_votes({"item": [1, 1, 2, 2], "annotator": list("abab"), "label": list("xxxy")})
>>> len(table), table.classes
(4, ['x', 'y'])
"""

from ._aggregate import Consensus, aggregate
from ._campaigns import Campaigns, Fed
from ._masks import MaskTable, read_masks, read_model_masks
from ._native import AnalysisOptions
from ._pixels import PixelQuality, analyze_masks
from ._quality import Quality, analyze
from ._reader import read_votes
from ._run_lengths import decode_brush, decode_rle
from ._states import State, Summary, merge_states, summarize
from ._votes import BadRow, InputError, Source, VoteTable

__all__ = [
    "AnalysisOptions",
    "BadRow",
    "Campaigns",
    "Consensus",
    "Fed",
    "InputError",
    "MaskTable",
    "PixelQuality",
    "Quality",
    "Source",
    "State",
    "Summary",
    "VoteTable",
    "aggregate",
    "analyze",
    "analyze_masks",
    "decode_brush",
    "decode_rle",
    "merge_states",
    "read_masks",
    "read_model_masks",
    "read_votes",
    "summarize",
]
