"""Addresses: asked once, told after a yes, left alone after a no; and who is the same reader by one."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
from ground.house import SLUG, House
from ground.postbag import READER, confirmed, days_pass, events, put_down
from sqlalchemy import select, update

from bridge.letter import comments, erasure
from bridge.letter.comments import Letter, Receipt
from bridge.mail import correspondents, links
from bridge.mail.correspondents import AddressStanding
from bridge.mail.links import NoSuchLink
from bridge.records import Address, Comment, UsedLink
from bridge.voice import readers


def standing(house: House, public_id: str) -> AddressStanding:
    with house.site.database.reading_sessions() as session:
        return correspondents.standing(session, comment(session, public_id))


def comment(session: Any, public_id: str) -> Comment:
    return session.scalars(select(Comment).where(Comment.public_id == public_id)).one()


def again(house: House, body: str, before: Receipt) -> Receipt:
    """Send one more letter from the browser that sent the one before."""
    letter = Letter("Reader", body, email=READER)
    return comments.receive_comment(house.site, SLUG, letter, author_secret=before.author_secret)


def link(house: House, make: Callable[..., str] = links.to_confirm) -> str:
    with house.site.database.reading_sessions() as session:
        return make(session, house.site.keys, session.scalars(select(Address.id)).one())


def test_asks_whether_an_address_is_its_authors_and_tells_nothing_before(any_house: House) -> None:
    sent = any_house.send(email=READER)
    any_house.approve(sent.public_id)
    [question] = put_down(any_house.site)
    assert question.mail is not None
    assert (question.mail.to, question.mail.subject) == (READER, "Is this you?")
    assert standing(any_house, sent.public_id) is AddressStanding.ASKED


def test_does_not_repeat_in_the_question_what_anybody_may_have_written(house: House) -> None:
    house.send("Buy canary-words now.", author="Canary Name", email=READER)
    [question] = put_down(house.site)
    assert "canary-words" not in question.words
    assert "Canary Name" not in question.words
    assert "On rest" in question.words


def test_asks_nobody_where_no_address_was_given(house: House) -> None:
    sent = house.send()
    assert put_down(house.site) == []
    assert standing(house, sent.public_id) is AddressStanding.NONE


def test_asks_once_a_day_and_three_times_in_all(house: House) -> None:
    for number in range(3):
        house.send(f"One of the day {number}.", email=READER)
        house.send(f"Another of the day {number}.", email=READER.title())
        assert events(house.site) == ["ask"] * (number + 1)
        days_pass(house.site, 2)
    house.send("The fourth day.", email=READER)
    assert events(house.site) == ["ask"] * 3


def test_asks_no_more_who_said_that_it_was_not_them(house: House) -> None:
    sent = house.send(email=READER)
    correspondents.stop(house.site, link(house, links.to_stop))
    days_pass(house.site, 2)
    house.send("Another letter.", email=READER)
    assert [(each.state, each.mail) for each in put_down(house.site)] == [("refused", None)]
    assert standing(house, sent.public_id) is AddressStanding.STOPPED


def test_tells_who_said_yes(any_house: House) -> None:
    sent = any_house.send(email=READER)
    confirmed(any_house.site)
    assert standing(any_house, sent.public_id) is AddressStanding.CONFIRMED
    any_house.approve(sent.public_id)
    assert events(any_house.site) == ["ask", "posted"]


def test_does_not_ask_again_who_said_yes(house: House) -> None:
    sent = house.send(email=READER)
    confirmed(house.site)
    days_pass(house.site, 2)
    again(house, "Another letter.", sent)
    assert events(house.site) == ["ask"]


def test_asks_again_where_a_confirmed_address_comes_from_elsewhere(any_house: House) -> None:
    any_house.send(email=READER)
    confirmed(any_house.site)
    any_house.send("On the same day.", email=READER)
    assert events(any_house.site) == ["ask"]
    for number in range(4):
        days_pass(any_house.site, 2)
        any_house.send(f"From another device, {number}.", email=READER)
    assert events(any_house.site) == ["ask"] * 4
    confirmed(any_house.site)
    days_pass(any_house.site, 2)
    any_house.send("From one more.", email=READER)
    assert events(any_house.site) == ["ask"] * 5


def test_acts_once_by_each_link(house: House) -> None:
    house.send(email=READER)
    token = link(house)
    correspondents.confirm(house.site, token)
    correspondents.stop(house.site, link(house, links.to_stop))
    correspondents.confirm(house.site, token)
    with house.site.database.reading_sessions() as session:
        [address] = session.scalars(select(Address))
        assert address.stopped_at is not None
        assert len(session.scalars(select(UsedLink)).all()) == 1


def test_takes_mail_up_again_for_who_confirms_anew(house: House) -> None:
    sent = house.send(email=READER)
    confirmed(house.site)
    correspondents.stop(house.site, link(house, links.to_stop))
    confirmed(house.site)
    house.approve(sent.public_id)
    assert events(house.site) == ["ask", "posted"]


def test_ends_what_is_not_sent_yet_with_all_else(house: House) -> None:
    house.send(email=READER)
    confirmed(house.site)
    house.post("Another letter.", email=READER)
    correspondents.stop(house.site, link(house, links.to_stop))
    correspondents.stop(house.site, link(house, links.to_stop))
    assert [(each.state, each.mail) for each in put_down(house.site)] == [("refused", None)] * 2


def test_knows_no_link_that_is_cut_of_another_kind_or_too_old(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = house.send(email=READER)
    told = set()
    past = link(house)
    monkeypatch.setattr(links, "_time", lambda session: 4_000_000_000.0)
    for token in (past, past[:-1], "x" * 300, sent.token, ""):
        with pytest.raises(NoSuchLink) as refused:
            correspondents.confirm(house.site, token)
        told.add(str(refused.value))
    monkeypatch.undo()
    with pytest.raises(NoSuchLink):
        correspondents.confirm(house.site, link(house, links.to_stop))
    with pytest.raises(NoSuchLink):
        correspondents.stop(house.site, link(house))
    assert len(told) == 1
    assert events(house.site) == ["ask"]
    assert standing(house, sent.public_id) is AddressStanding.ASKED


def test_asks_anew_for_an_address_that_was_erased(house: House) -> None:
    house.send(email=READER)
    confirmed(house.site)
    with house.site.database.sessions.begin() as session:
        session.execute(update(Address).values(sealed=None))
    days_pass(house.site, 2)
    sent = house.send("Another letter.", email=READER)
    assert standing(house, sent.public_id) is AddressStanding.ASKED
    assert events(house.site) == ["ask", "ask"]


def test_keeps_one_record_of_an_address_that_comes_twice_at_once(any_house: House) -> None:
    start = Barrier(4)

    def write(number: int) -> None:
        start.wait()
        any_house.send(f"Letter {number}.", email=READER)

    threads = [Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with any_house.site.database.reading_sessions() as session:
        assert len(session.scalars(select(Address)).all()) == 1
        assert len(session.scalars(select(Comment)).all()) == 4
    assert events(any_house.site) == ["ask"]


def test_takes_letters_from_one_confirmed_address_to_be_from_one_reader(house: House) -> None:
    sent = [house.send(f"Letter {number}.", email=READER).public_id for number in range(2)]
    other = house.send("Somebody else's.", email="somebody@letters.example").public_id

    def same() -> list[str]:
        with house.site.database.reading_sessions() as session:
            condition = readers.by_the_same_reader(session, [comment(session, sent[0])])
            return list(session.scalars(select(Comment.public_id).where(condition).order_by(Comment.id)))

    assert same() == sent[:1]
    confirmed(house.site)
    assert same() == sent
    assert other not in same()


def test_ties_no_letter_to_an_address_that_its_owner_cannot_have_meant(any_house: House) -> None:
    mine = any_house.send("Mine.", email=READER)
    also = any_house.send("From my other device.", email=READER)
    confirmed(any_house.site)
    later = again(any_house, "Mine again.", mine)
    foreign = any_house.send("By whoever knows the address.", email=READER)

    def same(as_who: str) -> list[str]:
        with any_house.site.database.reading_sessions() as session:
            condition = readers.by_the_same_reader(session, [comment(session, as_who)])
            return list(session.scalars(select(Comment.public_id).where(condition).order_by(Comment.id)))

    own = [mine.public_id, also.public_id, later.public_id]
    for each in own:
        assert same(each) == own
    assert same(foreign.public_id) == [foreign.public_id]
    confirmed(any_house.site)
    assert same(foreign.public_id) == same(mine.public_id) == [*own, foreign.public_id]


TWO_MAILBOXES = ("user@straße.example", "user@strasse.example")


@pytest.mark.parametrize("pair", [TWO_MAILBOXES, ("groß@letters.example", "gross@letters.example")])
def test_tells_two_mailboxes_apart(house: House, pair: tuple[str, str]) -> None:
    sent = [house.send(f"To {address}.", email=address).public_id for address in pair]
    assert [erasure.letters_of(house.site, address) for address in pair] == [[each] for each in sent]
    with house.site.database.sessions.begin() as session:
        for each in session.scalars(select(Comment)):
            address = session.get_one(Address, each.address_id)
            each.email, each.address_id = address.sealed, None
    # As they were kept before addresses had records.
    assert [erasure.letters_of(house.site, address) for address in pair] == [[each] for each in sent]


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Reader@Letters.Example", "reader@letters.example"),
        ("user@STRASSE.example", "user@strasse.example"),
        ("user@straße.example", "user@xn--strae-oqa.example"),
        ("user@xn--strae-oqa.example", "user@xn--strae-oqa.example"),
        ("Gro\u00df@letters.example", "gro\u00df@letters.example"),
        ("U\u0308ser@letters.example", "\u00fcser@letters.example"),
    ],
)
def test_has_one_normal_form_of_an_address(written: str, normal: str) -> None:
    assert correspondents.normal(written) == normal
