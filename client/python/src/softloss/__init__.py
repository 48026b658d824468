"""Score soft labels: losses and gradients, from a softloss server or in this process.

>>> import numpy as np, softloss
>>> with softloss.Engine() as engine:          # or softloss.Client("unix:/run/softloss.sock")
...     result = engine.score(np.float32([[2, 1, 0]]), np.float32([[0.6, 0.3, 0.1]]),
...                           loss="softmax_cross_entropy")
>>> round(result.loss, 6)
0.907606
"""

from ._client import Capabilities, Client, Future
from ._engine import Engine
from ._errors import (
    AbortedError,
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SoftlossError,
    UnavailableError,
    UnimplementedError,
)
from ._request import SparseLabel
from ._result import Conditions, Result, Timings
from ._softloss import __version__, pin_malloc_thresholds

__all__ = [
    "AbortedError",
    "CancelledError",
    "Capabilities",
    "Client",
    "Conditions",
    "DeadlineExceededError",
    "Engine",
    "FailedPreconditionError",
    "Future",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "Result",
    "SoftlossError",
    "SparseLabel",
    "Timings",
    "UnavailableError",
    "UnimplementedError",
    "__version__",
    "pin_malloc_thresholds",
]
