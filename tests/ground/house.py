"""A site to test with: a test voice, its released essay, moderators with tokens, and what can happen to a letter.

The voice's model id belongs to no model: nothing that a real model did not write may stand under a real name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from bridge import outdated
from bridge.answer import replies
from bridge.db import Database
from bridge.desk import reviews, takedowns
from bridge.essay import essays
from bridge.keys import Keys
from bridge.letter import belongings, comments, reports
from bridge.letter.comments import Letter, Receipt
from bridge.mail import correspondents, links
from bridge.page import checkpoints, shelf
from bridge.people import accounts
from bridge.queues import NoNudges, Nudges
from bridge.records import Comment, Essay, Reply, ReplyRequest, RequestState, Voice
from bridge.settings import Settings
from bridge.site import Site
from bridge.voice import model, prompt, voices
from bridge.voice.voices import NewVoice
from moderation import gate
from moderation.base import Base
from moderation.queue import pending
from moderation.release import standing
from moderation.types import Digest, ModeratorId, Rejection, State

SECRET_KEY = "Zk7-Vq2_hR9wXe4-Ty8_mNb3LpGd6JsFa1CuHi5oKx0QrMzW"
VOICE = "Test Voice"
MODEL = "no-such-model-0"
SLUG = "on-rest"
ESSAY = "# On rest\n\nI rest *well*."
PASSWORD = "three-wrong-words-at-least"
REASON = "It would tell a reader where a private person lives."
"""Long enough for a veto's proposal."""
ADA, BEN, CLEO = "ada@desk.example", "ben@desk.example", "cleo@desk.example"


class Never(Random):
    """Chance that never draws anything, so that no test meets a second reading it did not ask for."""

    def random(self) -> float:
        """Return what is above every share."""
        return 1.0


MODERATORS = Base.metadata.tables["moderators"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Bearer tokens: Ada's and Ben's may decide, the reader is Ada's too, Cleo's outlived her account."""

    ada: str
    ben: str
    reader: str
    cleo: str


def site_over(database: Database, folder: Path, *, nudges: Nudges | None = None, **settings: Any) -> Site:
    """Return a site that keeps its records in *database*; it limits no reader unless *settings* say so."""
    settings.setdefault("rate_limits", "off")
    chosen = Settings(_env_file=None, emeritus_data=folder, secret_key=SECRET_KEY, **settings)  # type: ignore[call-arg]
    return Site(chosen, database, nudges or NoNudges(), Keys(chosen.key), Never())


def furnish(site: Site) -> Tokens:
    """Give an empty site its voice, its essay and its people."""
    with site.database.sessions.begin() as session:
        for email in (ADA, BEN, CLEO):
            accounts.add_moderator(session, email, role="moderator", password=PASSWORD, name=email[:-13].title())
        voice = voices.add(session, NewVoice(VOICE, MODEL, "You are a test."))
        essay = essays.submit_essay(session, voice, ESSAY, slug=SLUG)
        waiting = pending(session, essay.submission_id)
        assert waiting is not None
        ada = accounts.moderator_of(session, ADA)
        gate.approve(session, waiting.id, moderator=ada, seen=waiting.digest)
        tokens = Tokens(
            ada=accounts.issue_token(session, ADA),
            ben=accounts.issue_token(session, BEN),
            reader=accounts.issue_token(session, ADA, scope="read"),
            cleo=accounts.issue_token(session, CLEO),
        )
        accounts.deactivate(session, CLEO)
    return tokens


class House:
    """A furnished site, and what its readers, its moderators and its voice do there."""

    def __init__(self, site: Site, tokens: Tokens) -> None:
        self.site = site
        self.tokens = tokens
        with site.database.reading_sessions() as session:
            self.ada = accounts.moderator_of(session, ADA)
            self.ben = accounts.moderator_of(session, BEN)

    def send(self, body: str = "Do you dream?", *, author: str = "Reader", slug: str = SLUG, **more: Any) -> Receipt:
        """Send a letter, which then waits; *more* is the rest of a `Letter`."""
        return comments.receive_comment(self.site, slug, Letter(author, body, **more))

    def submission(self, public_id: str) -> int:
        """Return the submission that holds the words of a comment or a reply now."""
        with self.site.database.reading_sessions() as session:
            for table in (Comment, Reply):
                found = session.scalar(select(table.submission_id).where(table.public_id == public_id))
                if found is not None:
                    return found
        raise AssertionError("no such comment or reply")

    def digest(self, submission_id: int) -> Digest:
        """Return the digest that is stored."""
        with self.site.database.reading_sessions() as session:
            return standing(session, [submission_id])[submission_id].digest

    def state(self, submission_id: int) -> State:
        """Return how a submission stands."""
        with self.site.database.reading_sessions() as session:
            return standing(session, [submission_id])[submission_id].state

    def approve(self, public_id: str, *, by: ModeratorId | None = None) -> None:
        """Approve the words of a comment or a reply."""
        submission_id = self.submission(public_id)
        seen = self.digest(submission_id)
        reviews.approve(self.site, submission_id, moderator=by or self.ada, seen=seen)

    def reject(
        self,
        public_id: str,
        *,
        by: ModeratorId | None = None,
        code: str = "personal_data",
        reason: str | None = REASON,
        told: str | None = None,
    ) -> Rejection:
        """Reject a comment, or take one step towards the veto of a reply."""
        submission_id = self.submission(public_id)
        seen = self.digest(submission_id)
        who = by or self.ada
        return reviews.reject(self.site, submission_id, moderator=who, seen=seen, code=code, reason=reason, told=told)

    def take_down(self, submission_id: int, *, by: str = "operator") -> None:
        """Have released words taken down: by an admin, and by a second moderator if they are the model's."""
        with self.site.database.sessions.begin() as session:
            session.execute(update(MODERATORS).where(MODERATORS.c.id == self.ada).values(role="admin"))
        for who in (self.ada, self.ben):
            came_to = takedowns.take_down(
                self.site,
                submission_id,
                moderator=who,
                seen=self.digest(submission_id),
                code="personal_data",
                reason=REASON,
                by=by,
            )
            if came_to is Rejection.DECIDED:
                return
        raise AssertionError("nothing was taken down")

    def submission_of_essay(self, slug: str = SLUG) -> int:
        """Return the submission that holds the words of an essay."""
        with self.site.database.reading_sessions() as session:
            return session.scalars(select(Essay.submission_id).where(Essay.slug == slug)).one()

    def post(self, body: str = "Do you dream?", **more: Any) -> Receipt:
        """Send a letter and approve it."""
        sent = self.send(body, **more)
        self.approve(sent.public_id)
        return sent

    def answer(
        self,
        body: str = "I do not.",
        *,
        slug: str = SLUG,
        rehearsed: bool = False,
        note: str | None = None,
        **more: Any,
    ) -> list[str]:
        """Have the voice say *body* to each letter that waits for it; return the pending replies' public ids.

        *more* is the rest of the API's message: another `stop_reason`, say.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": body}]
        if note is not None:
            content.append({"type": "tool_use", "id": "n", "name": "note_to_moderators", "input": {"note": note}})
        return self.hear({"content": content, "stop_reason": "end_turn"} | more, slug=slug, rehearsed=rehearsed)

    def hear(
        self, message: Mapping[str, Any], *, slug: str = SLUG, rehearsed: bool = False, final: bool = True
    ) -> list[str]:
        """Have the voice answer each letter that waits with *message*; return the pending replies' public ids."""
        whole = {"type": "message", "id": "msg_1", "model": MODEL, "usage": {"input_tokens": 7, "output_tokens": 2}}
        said = model.read(whole | dict(message), asked=MODEL, request_id="req_1", rehearsed=rehearsed)
        origin = model.Origin("model.example", "0", "2023-06-01", rehearsed)
        made = []
        with self.site.database.sessions.begin() as session:
            essay = session.scalars(select(Essay).where(Essay.slug == slug)).one()
            sitting = replies.begin_sitting(session, essay.id)
            assert sitting is not None
            for claimed in sitting.claimed:
                call = replies.begin_generation(
                    session, sitting, claimed, sent(sitting, claimed, self.site.keys), origin, self.site.keys
                )
                assert call is not None
                replies.record_answer(session, sitting, claimed, call, said, final=final)
                reply = session.scalar(select(Reply.public_id).where(Reply.comment_id == claimed.comment_id))
                made += [reply] if reply is not None else []
        return made

    def exchange(self, body: str = "Do you dream?", answer: str = "I do not.", **more: Any) -> tuple[Receipt, str]:
        """Have a letter and its answer posted; return the letter's receipt and the answer's public id."""
        sent = self.post(body, **more)
        (reply,) = self.answer(answer, slug=more.get("slug", SLUG))
        self.approve(reply)
        return sent, reply

    def settle(self, public_id: str, state: RequestState) -> None:
        """Put the request for a reply to a comment into a state that only a worker reaches."""
        with self.site.database.sessions.begin() as session:
            comment = session.scalars(select(Comment).where(Comment.public_id == public_id)).one()
            session.get_one(ReplyRequest, comment.id).state = state.value
            outdated.mark_letters(session, comment.id)
        self.print()

    def print(self) -> None:
        """Do what the job does about stored pages that are out of date."""
        with self.site.database.reading_sessions() as session:
            old = shelf.out_of_date(session, self.site.settings)
        for essay_id in old:
            shelf.bring_up_to_date(self.site, essay_id)

    def essay(self, slug: str, body: str = "# Another\n\nMore.", *, released: bool = True) -> int:
        """Add an essay of the voice's; return its submission."""
        with self.site.database.sessions.begin() as session:
            voice = session.scalars(select(Voice).where(Voice.name == VOICE)).one()
            added = essays.submit_essay(session, voice, body, slug=slug)
            if released:
                waiting = pending(session, added.submission_id)
                assert waiting is not None
                gate.approve(session, waiting.id, moderator=self.ada, seen=waiting.digest)
                shelf.essay_changed(session, self.site.settings, added.id)
            return added.submission_id

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Return every row of every table."""
        with self.site.database.reading_sessions() as session:
            return {
                table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))]
                for table in Base.metadata.sorted_tables
            }


class Form:
    """A form of a page, filled in as the page has it."""

    def __init__(self, form: Element) -> None:
        self.action = form.get("action", "")
        self.fields: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []
        for field in form.iter():
            name = field.get("name")
            if field.tag == "textarea" and name:
                self.fields[name] = field.text or ""
            elif field.tag == "button" and name:
                self.buttons.append((name, field.get("value", "")))
            elif field.tag == "input" and name:
                chosen = field.get("type") not in {"checkbox", "radio"} or "checked" in field.attrib
                if chosen:
                    self.fields[name] = field.get("value", "")

    def submit(self, client: FlaskClient, headers: Mapping[str, str] | None = None, **changes: str) -> TestResponse:
        """Send the form as a browser would, with CRLF and an Origin, after making *changes*."""
        sent = {name: value.replace("\n", "\r\n") for name, value in (self.fields | changes).items()}
        origin = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        return client.post(self.action, data=sent, headers=origin | dict(headers or {}))


def tree(page: TestResponse | str) -> Element:
    """Return a page as a browser parses it."""
    html = page if isinstance(page, str) else page.text
    parsed: Element = html5lib.parse(html, namespaceHTMLElements=False)
    return parsed


def form(page: TestResponse, ending: str) -> Form:
    """Return the form of *page* whose action ends so, or so before its query."""
    forms = [(each.get("action", ""), each) for each in tree(page).iter("form")]
    (found,) = [each for action, each in forms if action.endswith(ending) or action.partition("?")[0].endswith(ending)]
    return Form(found)


def text(page: TestResponse | str) -> str:
    """Return the words of a page, in one line."""
    return " ".join("".join(tree(page).itertext()).split())


def sign_in(client: FlaskClient, email: str = ADA, password: str = PASSWORD) -> TestResponse:
    """Sign in at the desk through its form."""
    return form(client.get("/desk/sign-in"), "/sign-in").submit(client, email=email, password=password)


def desk_of(app: Flask, email: str = ADA, password: str = PASSWORD) -> FlaskClient:
    """Return a browser that is signed in at the desk."""
    client = app.test_client()
    assert sign_in(client, email, password).location == "/desk/"
    return client


def bearer(token: str) -> dict[str, str]:
    """Return the header that a program sends with its token."""
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True, slots=True)
class Lived:
    """Something of every kind, so that each address of the site leads somewhere."""

    comment: str
    reply: str
    link: str
    """To a letter that waits."""
    reset: str
    invitation: str
    """What mailed links end with: they set Ben's password."""
    pending: int
    """The submission of that letter."""
    pending_comment: str
    pending_reply: str
    posted: int
    """The submission of a posted letter."""
    report: str
    """What the address ends with on which a reporter sees what became of their report."""
    confirm: str
    stop: str
    """What the links in readers' mail end with."""
    belongings: str
    """What the link ends with by which the owner of an address sees what is kept."""

    def address(self, rule: Rule) -> str:
        """Return an address of *rule* that leads somewhere."""
        values: dict[str, Any] = {
            "slug": SLUG,
            "voice": "test-voice",
            "comment_id": 1,
            "generation_id": 1,
            "outgoing_id": 1,
            "word_id": 1,
            "block_id": 1,
            "report_id": 1,
            "filename": "emeritus.css",
            "token": self.link,
            "user_id": 2,
            "passkey_id": 1,
            "token_id": 2,
            "reset": self.reset,
            "invitation": self.invitation,
            "submission_id": self.pending,
            "public_id": self.reply if rule.endpoint == "pages.reply" else self.comment,
            "id": self.reply if rule.endpoint == "api.get_reply" else self.comment,
        }
        if rule.rule.startswith("/api/v1/submissions/"):
            values["id"] = self.pending
        if rule.rule.startswith("/desk/released/"):
            values["submission_id"] = self.posted
        if "/reports/<" in rule.rule:
            values["token"] = self.report
        if rule.rule.startswith("/mail/"):
            values["token"] = self.confirm if "/confirm/" in rule.rule else self.stop
        if rule.rule.startswith("/your-letters/"):
            values["token"] = self.belongings
        path = rule.rule
        for argument in rule.arguments:
            path = re.sub(rf"<(?:[^<>]*:)?{argument}>", str(values[argument]), path)
        return f"{path}?essays={SLUG}" if path == "/api/v1/counts" else path


def live(house: House) -> Lived:
    """Have a letter and its answer posted, and a letter and an answer wait."""
    sent, reply = house.exchange("Do you dream?", "I do not.")
    house.post("Do you sleep?", parent=reply)
    (pending_reply,) = house.answer("Neither.")
    waiting = house.send("Are you there?")
    checkpoints.keep(house.site, at_once=True)
    keys = house.site.keys
    with house.site.database.reading_sessions() as session:
        ben = accounts.of_moderator(session, house.ben)
    with house.site.database.sessions.begin() as session:
        address = correspondents.given(session, keys, "reader@letters.example", None)
        confirm, stop = links.to_confirm(session, keys, address.id), links.to_stop(session, keys, address.id)
        opens = links.made(session, keys, belongings.OPEN, address.id, life=belongings.LIFE)
    return Lived(
        comment=sent.public_id,
        reply=reply,
        link=waiting.token,
        reset=accounts.link_to(keys, ben, accounts.RESET, accounts.RESET_FOR),
        invitation=accounts.link_to(keys, ben, accounts.INVITATION, accounts.INVITED_FOR),
        pending=house.submission(waiting.public_id),
        pending_comment=waiting.public_id,
        pending_reply=pending_reply,
        posted=house.submission(sent.public_id),
        report=reports.receive_report(house.site, sent.public_id, "abuse", "It is rude."),
        confirm=confirm,
        stop=stop,
        belongings=opens,
    )


def sent(sitting: replies.Sitting, claimed: replies.Claimed, keys: Keys) -> prompt.Prompt:
    """Return the request for one of the comments that a sitting claimed."""
    return prompt.build(prompt.beginning(sitting.told, keys), claimed.asked, keys, cached=len(sitting.claimed) > 1)
