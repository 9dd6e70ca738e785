"""What the tests of the site share: a furnished site, and the ways into it.

`house` is on SQLite; `any_house` runs the test twice, on SQLite and on PostgreSQL.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import House, Tokens, desk_of, furnish, site_over

from bridge import db
from bridge.app import create_app
from bridge.site import Site


@pytest.fixture(scope="session")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokens]:
    """A furnished SQLite database to copy: hashing its passwords takes longer than most tests."""
    path = tmp_path_factory.mktemp("furnished") / "emeritus.db"
    shutil.copy(sqlite_template, path)
    database = db.connect(f"sqlite:///{path}")
    tokens = furnish(site_over(database, path.parent))
    database.dispose()
    return path, tokens


@pytest.fixture
def house(furnished: tuple[Path, Tokens], tmp_path: Path) -> Iterator[House]:
    path, tokens = furnished
    database = db.connect(f"sqlite:///{shutil.copy(path, tmp_path / 'emeritus.db')}")
    yield House(site_over(database, tmp_path), tokens)
    database.dispose()


@pytest.fixture
def any_house(request: pytest.FixtureRequest, database: db.Database, tmp_path: Path) -> House:
    site = site_over(database, tmp_path)
    return House(site, furnish(site))


@pytest.fixture
def site(house: House) -> Site:
    return house.site


@pytest.fixture
def app(house: House) -> Flask:
    return create_app(house.site)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser, or a program, that nobody has signed in with."""
    return app.test_client()


@pytest.fixture
def desk(app: Flask) -> FlaskClient:
    """Ada's browser, signed in at the desk."""
    return desk_of(app)
