"""What the first page of the queue costs with 100 and with 100,000 submissions waiting, on both databases.

Each measurement is a request through the whole WSGI application, taken in turn with all the others of its database, so
that what else the machine does falls on all of them alike. The floor is `/healthz` of the same application.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

from ground import postgres
from ground.house import SLUG, Tokens, bearer, desk_of, furnish, site_over
from sqlalchemy import Connection, insert, select, text

from bridge import db, migrate
from bridge.app import create_app
from bridge.records import Comment, Essay
from bridge.site import Site
from moderation.base import Base, now
from moderation.digest import commitment, new_nonce
from moderation.types import Digest, Kind

FEW, MANY = 100, 100_000
ROUNDS, WARM_UP = 60, 6
AIM = 1.5
"""How much longer the page may take with `MANY` than with `FEW` (issue 4)."""
SUBMISSIONS, WAITING = Base.metadata.tables["submissions"], Base.metadata.tables["waiting"]

Request = Callable[[], None]


def main() -> None:
    """Measure on each database and print a table; exit with 1 if anything is over the aim."""
    late = 0
    logging.disable(logging.WARNING)  # No Redis runs here, which the application says.
    print(f"Medians of {ROUNDS}, in milliseconds; the aim is at most {AIM}.\n")
    print(f"{'':34}{FEW:>12,}{MANY:>12,}{'ratio':>9}")
    for name, empty in (("SQLite", sqlite), ("PostgreSQL", postgresql)):
        with ExitStack() as stack:
            few, many = (stack.enter_context(empty(f"bench_{number}")) for number in (FEW, MANY))
            requests = {(what, FEW): each for what, each in site_with(stack, few, FEW).items()}
            requests |= {(what, MANY): each for what, each in site_with(stack, many, MANY).items()}
            took = measured(requests)
        for what in dict.fromkeys(what for what, _ in requests):
            ratio = took[what, MANY] / took[what, FEW]
            late += ratio > AIM
            remark = "  above the aim" if ratio > AIM else ""
            print(f"{name + ', ' + what:34}{took[what, FEW]:12.2f}{took[what, MANY]:12.2f}{ratio:9.2f}{remark}")
        print()
    if late:
        sys.exit(1)


def site_with(stack: ExitStack, url: str, waiting: int) -> dict[str, Request]:
    """Furnish a site on the empty database at *url*, let *waiting* letters wait, and return what is to be measured."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emeritus-bench-")))
    engine = db.owner_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
        if engine.dialect.name == "postgresql":
            migrate.grant(connection, login=engine.url.username)
    database = db.connect(url)
    stack.callback(database.dispose)
    site = site_over(database, folder)
    tokens = furnish(site)
    say(f"{engine.dialect.name}: {waiting:,} letters ...")
    with engine.begin() as connection:
        send(connection, site, waiting)
        if engine.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))  # As autovacuum does within a minute of such a change.
    engine.dispose()
    return pages(site, tokens)


def send(connection: Connection, site: Site, many: int) -> None:
    """Let *many* letters wait, as `comments.receive_comment` leaves them, a thousand a statement."""
    with site.database.reading_sessions() as session:
        essay = session.scalars(select(Essay).where(Essay.slug == SLUG)).one()
        above = session.scalars(select(SUBMISSIONS.c.digest).where(SUBMISSIONS.c.id == essay.submission_id)).one()
    begin = now() - timedelta(days=30)
    for start in range(0, many, 1000):
        letters, places, comments = [], [], []
        for number in range(start, min(start + 1000, many)):
            key, at = essay.submission_id + 1 + number, begin + timedelta(seconds=number)
            words = {
                "nonce": new_nonce(),
                "author": f"Reader {number % 700}",
                "body": f"Letter {number}. " + "Why? " * 40,
            }
            digest = commitment(kind=Kind.COMMENT, in_answer_to=Digest(above), **words)
            secret = hashlib.sha256(str(number % 700).encode()).hexdigest()
            letters.append(
                words | {"id": key, "kind": "comment", "in_answer_to": above, "digest": digest, "submitted_at": at}
            )
            places.append(
                {"submission_id": key, "kind": "comment", "essay": essay.submission_id, "tray": "main"}
                | {"voice": essay.voice_id}
            )
            comments.append(
                {"public_id": f"{number:032x}", "essay_id": essay.id, "submission_id": key, "author_digest": secret}
                | {"wants_reply": True, "created_at": at}
            )
        for table, rows in ((SUBMISSIONS, letters), (WAITING, places), (Comment.__table__, comments)):
            connection.execute(insert(table), rows)  # type: ignore[arg-type]


def pages(site: Site, tokens: Tokens) -> dict[str, Request]:
    """Return the requests that are measured, by name."""
    app = create_app(site)
    desk, program = desk_of(app), app.test_client()

    def get(client: object, path: str, **how: object) -> Request:
        def request() -> None:
            response = client.get(path, **how)  # type: ignore[attr-defined]
            if response.status_code != 200:
                sys.exit(f"{path} answered {response.status_code}: the measurement is broken.")

        return request

    return {
        "floor (/healthz)": get(program, "/healthz"),
        "/desk/": get(desk, "/desk/"),
        "/api/v1/queue": get(program, "/api/v1/queue", headers=bearer(tokens.ada)),
    }


def measured(requests: dict[tuple[str, int], Request]) -> dict[tuple[str, int], float]:
    """Return the median of each request, in milliseconds, all of them taken in turn."""
    took: dict[tuple[str, int], list[float]] = {which: [] for which in requests}
    for turn in range(ROUNDS + WARM_UP):
        say(f"round {turn + 1} of {ROUNDS + WARM_UP} ...")
        for which, request in requests.items():
            began = time.perf_counter()
            request()
            if turn >= WARM_UP:
                took[which].append((time.perf_counter() - began) * 1000)
    say("")
    return {which: median(each) for which, each in took.items()}


@contextmanager
def sqlite(name: str) -> Iterator[str]:
    """Yield the URL of a SQLite database that does not exist yet."""
    folder = tempfile.mkdtemp(prefix="emeritus-bench-")
    yield f"sqlite:///{folder}/{name}.db"
    shutil.rmtree(folder)


@contextmanager
def postgresql(name: str) -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database."""
    yield postgres.cluster().create_database(name)
    postgres.cluster().drop_database(name)


def say(what: str) -> None:
    """Tell a person who waits how far it is."""
    if sys.stderr.isatty():
        print(f"\r{what:60}", end="" if what else "\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
