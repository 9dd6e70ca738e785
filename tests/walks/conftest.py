"""Installations that stories share: starting one takes several seconds."""

from collections.abc import Iterator

import pytest
from ground.installation import Installation

ESSAYS = ("how-to-fold-a-letter", "a-map-with-the-old-names", "the-prompters-box")


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Start one that answers quickly and takes any number of letters from one address.

    At the very end, see that it left nothing behind and gave nothing away.
    """
    quick = Installation(
        tmp_path_factory.mktemp("walk"), {"REHEARSAL_LATENCY": "0.05", "RATE_LIMITS": "off", "GATHERING_SECONDS": "0.2"}
    )
    quick.start()
    try:
        quick.admit_moderator()
        yield quick
        quick.stop()
    finally:
        quick.destroy()
