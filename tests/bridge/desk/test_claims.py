"""Claims: who reads what, for two minutes at a time, on the database's clock."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from ground.house import REASON, House
from sqlalchemy import select, update

from bridge.desk import claims, reviews
from bridge.letter import comments
from bridge.records import Claim
from moderation.errors import AlreadyDecided, NoLongerPending, NoSuchSubmission, UnknownModerator
from moderation.ledger import entries
from moderation.types import ModeratorId


def letter(house: House, body: str = "Do you dream?") -> int:
    return house.submission(house.send(body).public_id)


def readers(house: House, *ids: int) -> dict[int, str]:
    """Return who reads what now."""
    with house.site.database.reading_sessions() as session:
        return {id_: claim.moderator.name for id_, claim in claims.standing(session, ids).items()}


def two_minutes_pass(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(Claim).values(until=Claim.until - claims.SECONDS))


def test_lasts_two_minutes_on_the_databases_clock(any_house: House) -> None:
    first = letter(any_house)
    claim = claims.read(any_house.site, first, moderator=any_house.ada)
    assert claim.moderator.name == "Ada"
    assert readers(any_house, first) == {first: "Ada"}
    two_minutes_pass(any_house)
    assert readers(any_house, first) == {}


def test_is_renewed_by_the_same_call(any_house: House) -> None:
    first = letter(any_house)
    before = claims.read(any_house.site, first, moderator=any_house.ada)
    two_minutes_pass(any_house)
    again = claims.read(any_house.site, first, moderator=any_house.ada)
    assert again.until >= before.until
    assert readers(any_house, first) == {first: "Ada"}


def test_stays_with_who_came_first_until_somebody_takes_it_over(any_house: House) -> None:
    first = letter(any_house)
    claims.read(any_house.site, first, moderator=any_house.ada)
    assert claims.read(any_house.site, first, moderator=any_house.ben).moderator.name == "Ada"
    assert claims.read(any_house.site, first, moderator=any_house.ben, take_over=True).moderator.name == "Ben"
    # Ada's page goes on and says that she is reading; Ben's claim stands.
    assert claims.read(any_house.site, first, moderator=any_house.ada).moderator.name == "Ben"
    assert readers(any_house, first) == {first: "Ben"}


def test_goes_to_the_next_who_comes_when_it_ran_out(any_house: House) -> None:
    first = letter(any_house)
    claims.read(any_house.site, first, moderator=any_house.ada)
    two_minutes_pass(any_house)
    assert claims.read(any_house.site, first, moderator=any_house.ben).moderator.name == "Ben"


def test_leaves_a_moderator_three_and_ends_the_oldest(any_house: House) -> None:
    ids = [letter(any_house, f"Letter {number}.") for number in range(5)]
    for each in ids:
        claims.read(any_house.site, each, moderator=any_house.ada)
    claims.read(any_house.site, ids[0], moderator=any_house.ben)
    assert readers(any_house, *ids) == {ids[0]: "Ben", ids[2]: "Ada", ids[3]: "Ada", ids[4]: "Ada"}


def test_is_let_go_by_its_moderator_only(any_house: House) -> None:
    first = letter(any_house)
    claims.read(any_house.site, first, moderator=any_house.ada)
    claims.let_go(any_house.site, first, moderator=any_house.ben)
    assert readers(any_house, first) == {first: "Ada"}
    claims.let_go(any_house.site, first, moderator=any_house.ada)
    claims.let_go(any_house.site, first, moderator=any_house.ada)
    assert readers(any_house, first) == {}


def test_ends_with_the_decision_and_with_a_hold(any_house: House) -> None:
    approved, rejected, held = (any_house.send(f"Letter {number}.") for number in range(3))
    for sent in (approved, rejected, held):
        claims.read(any_house.site, any_house.submission(sent.public_id), moderator=any_house.ben)
    any_house.approve(approved.public_id)
    any_house.reject(rejected.public_id)
    reviews.hold(any_house.site, any_house.submission(held.public_id), moderator=any_house.ben)
    with any_house.site.database.reading_sessions() as session:
        assert session.scalars(select(Claim.submission_id)).all() == []


def test_cannot_be_made_on_what_awaits_no_verdict(any_house: House) -> None:
    sent, changed = any_house.post(), any_house.send("Before.")
    before = any_house.submission(changed.public_id)
    comments.change_comment(any_house.site, changed.public_id, comments.Letter("Reader", "After."))
    with pytest.raises(AlreadyDecided):
        claims.read(any_house.site, any_house.submission(sent.public_id), moderator=any_house.ada)
    with pytest.raises(NoLongerPending):
        claims.read(any_house.site, before, moderator=any_house.ada)
    with pytest.raises(NoSuchSubmission):
        claims.read(any_house.site, 10**6, moderator=any_house.ada)
    with pytest.raises(UnknownModerator):
        claims.read(any_house.site, any_house.submission(changed.public_id), moderator=ModeratorId(10**6))


def test_is_no_lock_and_leaves_nothing_in_the_ledger(any_house: House) -> None:
    sent = any_house.send()
    with any_house.site.database.reading_sessions() as session:
        before = len(entries(session, limit=1000))
    claims.read(any_house.site, any_house.submission(sent.public_id), moderator=any_house.ben)
    with any_house.site.database.reading_sessions() as session:
        assert len(entries(session, limit=1000)) == before
    any_house.approve(sent.public_id, by=any_house.ada)


def test_gives_one_of_many_who_come_at_once(any_house: House) -> None:
    first = letter(any_house)
    together = Barrier(8)

    def read(number: int) -> str:
        together.wait()
        who = any_house.ada if number % 2 else any_house.ben
        return claims.read(any_house.site, first, moderator=who).moderator.name

    with ThreadPoolExecutor(8) as threads:
        told = set(threads.map(read, range(8)))
    assert len(told) == 1
    assert readers(any_house, first) == {first: told.pop()}


def test_leaves_three_to_who_opens_many_at_once(any_house: House) -> None:
    ids = [letter(any_house, f"Letter {number}.") for number in range(8)]
    together = Barrier(8)

    def read(each: int) -> None:
        together.wait()
        claims.read(any_house.site, each, moderator=any_house.ada)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, ids))
    assert len(readers(any_house, *ids)) == claims.AT_MOST


def test_stands_on_nothing_after_claims_and_verdicts_at_once(any_house: House) -> None:
    any_house.post()
    (reply,) = any_house.answer()
    submission = any_house.submission(reply)
    seen = any_house.digest(submission)
    together = Barrier(6)

    def act(number: int) -> None:
        together.wait()
        try:
            if number == 0:
                reviews.approve(any_house.site, submission, moderator=any_house.ada, seen=seen)
            elif number == 1:
                reviews.reject(
                    any_house.site, submission, moderator=any_house.ben, seen=seen, code="harm", reason=REASON
                )
            else:
                claims.read(any_house.site, submission, moderator=any_house.ben, take_over=number % 2 == 0)
        except AlreadyDecided:
            pass

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(act, range(6)))
    assert readers(any_house, submission) == {}
