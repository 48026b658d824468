"""Fixtures of the quality tests."""

from __future__ import annotations

import os
import pathlib

import pytest
from servers import REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Data sets that are beside the repository."""
    data = pathlib.Path(os.environ.get("SOFTLOSS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not data.exists():
        pytest.skip(f"there is no {data}; set SOFTLOSS_DATA")
    return data
