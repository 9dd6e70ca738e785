"""What a reader is answered when the stored pages cannot be read: by the application, and never by the bare server."""

import logging
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, furnish, site_over
from sqlalchemy import text as sql

from bridge import db
from bridge.app import create_app

ADDRESSES = [f"/essays/{SLUG}", f"/essays/{SLUG}/embed", f"/api/v1/essays/{SLUG}/thread"]


def read(client: FlaskClient) -> dict[str, str]:
    """Return what a reader is answered at each address, if it is what it should be."""
    told = {}
    for address in ADDRESSES:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "default-src" in answer.headers["Content-Security-Policy"]
        told[address] = answer.text
    return told


def test_prints_a_page_where_the_shelf_is_missing(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    database = db.connect(database_url)
    site = site_over(database, tmp_path)
    House(site, furnish(site)).exchange("Canaryone sings.", "Canarytwo answers.")
    client = create_app(site).test_client()
    before = read(client)
    owner = db.owner_engine(database_url)
    with owner.begin() as connection:
        connection.execute(sql("ALTER TABLE stored_pages RENAME TO gone_pages"))
    owner.dispose()
    assert read(client) == before
    assert "no stored page can be read" in caplog.text
    assert "Canary" not in caplog.text
    database.dispose()


def test_prints_a_page_where_the_shelf_takes_too_long(postgresql_url: str, tmp_path: Path) -> None:
    owner = db.owner_engine(postgresql_url)
    with owner.begin() as connection:
        connection.execute(sql(f"ALTER DATABASE {owner.url.database} SET statement_timeout = '200ms'"))
    database = db.connect(postgresql_url)
    site = site_over(database, tmp_path)
    House(site, furnish(site)).exchange()
    client = create_app(site).test_client()
    before = read(client)
    with owner.begin() as connection:
        connection.execute(sql("LOCK TABLE stored_pages IN ACCESS EXCLUSIVE MODE"))
        assert read(client) == before
    owner.dispose()
    database.dispose()


@pytest.mark.parametrize("address", ADDRESSES)
def test_asks_to_come_again_where_nothing_can_be_read(house: House, address: str) -> None:
    client = create_app(house.site).test_client()
    house.site.database.dispose()
    path = house.site.settings.data / "emeritus.db"
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    answer = client.get(address)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5")
    assert "The records cannot be reached just now." in answer.text
    assert "default-src" in answer.headers["Content-Security-Policy"]
