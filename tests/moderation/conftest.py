"""What the tests of the vault share."""

from collections.abc import Iterator

import pytest
from ground.vault import Vault

from bridge import db


@pytest.fixture
def vault(database: db.Database) -> Vault:
    """On both databases: where the SQL differs."""
    return Vault(database)


@pytest.fixture
def sqlite_vault(sqlite_url: str) -> Iterator[Vault]:
    """On SQLite alone: where it does not."""
    database = db.connect(sqlite_url)
    yield Vault(database)
    database.dispose()
