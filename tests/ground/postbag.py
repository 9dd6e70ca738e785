"""What was put down to be sent to readers, as their mail program will read it, and the links in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

from sqlalchemy import select, update

from bridge.mail import correspondents, links, outbox
from bridge.mail.outbox import Mail
from bridge.records import Address, Outgoing
from bridge.site import Site
from moderation.base import now
from workers.posting import Maker, _wire

READER = "reader-canary@letters.example"


@dataclass(frozen=True, slots=True)
class Put:
    """One mail that is put down, and what stands beside it."""

    id: int
    once: str
    state: str
    comment_id: int | None
    address_id: int | None
    mail: Mail | None

    @property
    def words(self) -> str:
        """Both its parts."""
        assert self.mail is not None
        return self.mail.text + (self.mail.html or "")


def put_down(site: Site) -> list[Put]:
    """Return everything that was put down for readers, oldest first."""
    with site.database.reading_sessions() as session:
        rows = session.scalars(select(Outgoing).where(Outgoing.address_id.is_not(None)).order_by(Outgoing.id)).all()
        found = []
        for row in rows:
            opened = site.keys.unsealed(outbox.SEALED, row.sealed) if row.sealed is not None else None
            mail = Mail(**json.loads(opened)) if opened is not None else None
            found.append(Put(row.id, row.once, row.state, row.comment_id, row.address_id, mail))
        return found


def events(site: Site) -> list[str]:
    """Return what the mails that are put down are about, without the ids."""
    return [each.once.partition(":")[0] for each in put_down(site)]


def received(site: Site, put: Put) -> EmailMessage:
    """Return a mail as the program of its recipient reads it."""
    assert put.mail is not None
    made = Maker("emeritus@letters.example.org", "letters.example.org", site.keys).made(put.id, put.mail)
    return cast(EmailMessage, message_from_bytes(_wire(made), policy=policy.default))


def path_to(kind: str, put: Put) -> str:
    """Return the path of the link to "confirm" or "stop" in a mail."""
    assert put.mail is not None
    found = re.search(rf"/mail/{kind}/\S+", put.mail.text)
    assert found is not None
    return found[0]


def confirmed(site: Site, address: str = READER) -> None:
    """Have the owner of an address that was asked follow the link in the question."""
    with site.database.reading_sessions() as session:
        digest = site.keys.keyed_digest(correspondents.DIGEST, address)
        address_id = session.scalars(select(Address.id).where(Address.digest == digest)).one()
        token = links.to_confirm(session, site.keys, address_id)
    correspondents.confirm(site, token)


def days_pass(site: Site, days: int) -> None:
    """Let so many days have passed since anybody was asked."""
    from datetime import timedelta

    with site.database.sessions.begin() as session:
        session.execute(update(Address).values(asked_at=now() - timedelta(days=days)))
