"""The names that `import pubsubd` promises to applications change on purpose only."""

from __future__ import annotations

import pytest
from tests.unit.client.public_names import KEPT, public_names


@pytest.mark.interpreted
def test_the_public_names_are_the_kept_ones() -> None:
    kept = KEPT.read_text().splitlines()
    found = public_names().splitlines()
    assert found == kept, (
        "the public names of the SDK changed; if that is meant, run "
        "`python -m tests.unit.client.public_names` and say so in CHANGELOG.md"
    )
