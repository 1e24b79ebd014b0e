"""
What is said about durability is said about the server as it runs: nothing measures it here.
"""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start servers without coverage."""
    monkeypatch.delenv("PACS_COVERAGE", raising=False)
