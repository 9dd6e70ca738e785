"""What every test may ask for: a migrated database of each kind, its own, gone afterwards.

- `cluster`: this process's PostgreSQL server (each xdist worker has one).
- `database_url`: runs the test twice, on `sqlite_url` and on `postgresql_url`; ask for one of these to run once.
- `database`: the site's `Database` on `database_url`; its sessions have the app's rights and no more.

Tests on PostgreSQL are `slow`: `make check` leaves them out.

The owner's way in, without the walls, is `bridge.db.owner_engine(database_url)`.
"""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from ground import postgres

from bridge import db, migrate

TEMPLATE = "emeritus_template"
numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave PostgreSQL to `make test`: `make check` has a minute for everything, and SQLite runs the same tests."""
    for item in items:
        variant = getattr(item, "callspec", None)
        if "postgresql_url" in getattr(item, "fixturenames", ()) or (
            variant is not None and "postgresql" in map(str, variant.params.values())
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def cluster() -> postgres.Cluster:
    return postgres.cluster()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "emeritus.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(cluster: postgres.Cluster) -> str:
    prepare(cluster.create_database(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'emeritus.db')}"


@pytest.fixture
def postgresql_url(cluster: postgres.Cluster, postgresql_template: str) -> Iterator[str]:
    name = f"emeritus_{next(numbers)}"
    yield cluster.create_database(name, template=postgresql_template)
    cluster.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[db.Database]:
    connected = db.connect(database_url)
    yield connected
    connected.dispose()


def prepare(url: str) -> None:
    """Migrate an empty database, and let no connection to it stay open: templates may have none."""
    engine = db.owner_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
        if engine.dialect.name == "postgresql":
            migrate.grant(connection, login=engine.url.username)
    engine.dispose()


@pytest.fixture(scope="session")
def prepare_database() -> Callable[[str], None]:
    """Give the function that migrates an empty database, for modules that keep one of their own."""
    return prepare
