"""What the tests of pictures share."""

import pytest

from ag_networks.visualize import sheet


@pytest.fixture
def _coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw with few pixels, which is fast."""
    monkeypatch.setattr(sheet, "_DPI", 25)
