"""Fixtures of the outputs' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_samples import open_outbox

from lad_edge.outputs.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = open_outbox(tmp_path / "r.sqlite")
    yield outbox
    outbox.close()
