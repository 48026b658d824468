"""The examples in the package's own documentation."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    ["softloss", "softloss._engine", "softloss._errors", "softloss._request", "softloss._result"],
)
def test_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0
