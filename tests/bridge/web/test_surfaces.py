"""Every public address of the site, found in its URL map, serves what is released and nothing else, act by act."""

import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import REASON, SLUG, House
from sqlalchemy import select, update

from bridge.desk import takedowns
from bridge.essay import essays
from bridge.letter import appeals, comments, erasure, reports
from bridge.letter.comments import Letter
from bridge.records import Comment, Essay, Reply
from bridge.web.access import Access, declared
from moderation import gate
from moderation.base import Base
from moderation.types import Rejection

MODERATORS = Base.metadata.tables["moderators"]
OTHER = "on-sleep"


class Word:
    """Makes words that are in nothing else, and remembers which of them may be public now."""

    def __init__(self) -> None:
        self.public: set[str] = set()
        self.all: set[str] = set()

    def new(self, *, public: bool = False) -> str:
        word = f"canary-{len(self.all):03}-heliotrope"
        self.all.add(word)
        if public:
            self.public.add(word)
        return word


def addresses(app: Flask, house: House) -> Iterator[str]:
    """Yield every public address there is: each rule with everything that its place can be filled with."""
    with house.site.database.reading_sessions() as session:
        slugs = list(session.scalars(select(Essay.slug)))
        letters = list(session.scalars(select(Comment.public_id)))
        answers = list(session.scalars(select(Reply.public_id)))
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or declared(app, rule.endpoint) is not Access.PUBLIC:
            continue
        if "<" not in rule.rule:
            yield rule.rule
        for value in (*slugs, *letters, *answers, "test-voice") if len(rule.arguments) == 1 else ():
            yield re.sub("<[^<>]*>", value, rule.rule)
    for of in (*slugs, *letters, *answers):
        yield f"/reports?of={of}"
        yield f"/essays/{SLUG}?answering={of}"


def served(app: Flask, house: House, client: FlaskClient) -> str:
    """Return all that the public addresses answer, those that refuse too, and where their redirects lead."""
    found = []
    for path in addresses(app, house):
        response = client.get(path, buffered=True)
        assert response.status_code < 500, path
        found.append(f"{response.text} {response.location or ''}")
    return "\n".join(found)


@pytest.fixture
def word() -> Word:
    return Word()


@pytest.fixture
def holds(app: Flask, house: House, client: FlaskClient, word: Word) -> Callable[[str], None]:
    """Fail unless exactly the words that are released are served."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))

    def check(after: str) -> None:
        text = served(app, house, client)
        assert {each for each in word.all if each in text} == word.public, after

    return check


def down(house: House, submission: int, *, by_two: bool, law: bool = False) -> None:
    for moderator in (house.ada, house.ben)[: 2 if by_two else 1]:
        came_to = takedowns.take_down(
            house.site,
            submission,
            moderator=moderator,
            seen=house.digest(submission),
            code="personal_data",
            reason=REASON,
            by="law" if law else "operator",
        )
    assert came_to is Rejection.DECIDED


def test_serves_nothing_of_a_letter_before_it_is_approved(
    house: House, word: Word, holds: Callable[[str], None]
) -> None:
    sent = house.send(word.new(), author=word.new(), email=f"{word.new()}@reader.example")
    holds("it arrived")
    comments.change_comment(house.site, sent.public_id, Letter(word.new(), word.new()))
    holds("it was changed")
    house.reject(sent.public_id, code="off_topic", reason=word.new(), told=word.new())
    holds("it was rejected")
    appeals.appeal(house.site, sent.public_id, word.new())
    holds("its author appealed")
    comments.take_back(house.site, sent.public_id)
    holds("it was taken back")
    erasure.erase_comment(house.site, sent.public_id)
    holds("it was erased")


@pytest.mark.parametrize("erases", [False, True])
def test_serves_nothing_of_an_exchange_that_its_author_takes_back(
    house: House, word: Word, holds: Callable[[str], None], erases: bool
) -> None:
    letter, answer = word.new(public=True), word.new()
    sent = house.post(letter)
    (reply,) = house.answer(answer, note=word.new())
    holds("the answer waits")
    house.approve(reply)
    word.public.add(answer)
    holds("both are posted")
    reports.receive_report(house.site, sent.public_id, "abuse", word.new())
    holds("it was reported")
    (erasure.erase_comment if erases else comments.take_back)(house.site, sent.public_id)
    word.public.clear()
    holds("it was taken back")


def test_serves_nothing_of_an_answer_that_is_vetoed(house: House, word: Word, holds: Callable[[str], None]) -> None:
    house.post(word.new(public=True))
    (reply,) = house.answer(word.new())
    house.reject(reply, reason=f"{word.new()} {REASON}")
    holds("a veto is proposed")
    house.reject(reply, by=house.ben, reason=word.new())
    holds("it is vetoed")


def test_serves_the_answer_alone_of_a_letter_that_is_taken_down(
    house: House, word: Word, holds: Callable[[str], None]
) -> None:
    letter, answer = word.new(public=True), word.new(public=True)
    sent, reply = house.exchange(letter, answer)
    holds("both are posted")
    down(house, house.submission(sent.public_id), by_two=False)
    word.public.remove(letter)
    holds("the letter is taken down")
    down(house, house.submission(reply), by_two=True, law=True)
    word.public.remove(answer)
    holds("the answer is taken down")


def test_serves_nothing_that_stands_under_an_essay_that_is_taken_down(
    house: House, word: Word, holds: Callable[[str], None]
) -> None:
    title, text, stays = word.new(), word.new(), word.new()
    submission = house.essay(OTHER, f"# Of {title}\n\n{text}", released=False)
    holds("it waits")
    house.essay("third", f"# Of {stays}\n\nMore.")
    with house.site.database.sessions.begin() as session:
        gate.approve(session, submission, moderator=house.ada, seen=house.digest(submission))
    word.public |= {title, text, stays}
    sent, reply = house.exchange(word.new(public=True), word.new(public=True), slug=OTHER)
    house.post(word.new(public=True), slug=OTHER, parent=reply)
    essays.close(house.site, OTHER, word.new(public=True))
    holds("all is posted, and it takes no letters")
    down(house, submission, by_two=True)
    word.public = {stays}
    holds("the essay is taken down")
    erasure.erase_comment(house.site, sent.public_id)
    holds("a letter under it is erased")


def test_finds_what_it_looks_for(app: Flask, house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange("The letter itself.", "The answer itself.")
    paths = list(addresses(app, house))
    letter = f"/comments/{sent.public_id}"
    for path in ("/", f"/essays/{SLUG}", letter, f"/api/v1/replies/{reply}", f"/reports?of={reply}"):
        assert path in paths
        assert client.get(path).status_code == 200
    assert served(app, house, client).count("The answer itself.") >= 6
