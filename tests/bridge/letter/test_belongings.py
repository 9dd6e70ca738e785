"""What is kept about an address: all of it in one file, sent for by a link, and gone when its owner says so."""

import json
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from ground.house import VOICE, House
from ground.postbag import READER, confirmed, events, path_to, put_down, received
from sqlalchemy import select, update

from bridge.letter import appeals, belongings, comments, erasure
from bridge.letter.comments import Letter
from bridge.mail import correspondents, links
from bridge.mail.links import NoSuchLink
from bridge.page.metadata import AI_SOURCE
from bridge.records import Address, Comment, Mention, Outgoing, UsedLink, Voice
from bridge.text.passages import Passage
from moderation import ledger
from moderation.base import now
from moderation.types import State

OTHER = "somebody-else@letters.example"


def token(house: House, email: str = READER) -> str:
    """Return the token of the link that is mailed to an address."""
    belongings.send_link(house.site, email)
    mail = put_down(house.site)[-1].mail
    assert mail is not None
    [line] = [line for line in mail.text.splitlines() if "/your-letters/" in line]
    return line.rpartition("/")[2]


def exported(house: House, email: str = READER) -> dict[str, Any]:
    found = belongings.export(house.site, email)
    assert found is not None
    whole: dict[str, Any] = json.loads(json.dumps(found))
    return whole


def address(house: House) -> Address:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Address)).one()


def as_before_migration_0004(house: House) -> None:
    """Keep the addresses with the letters, as they were kept before they had records of their own."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(Outgoing).values(address_id=None))
        session.execute(update(Comment).values(email=house.site.keys.encrypted(READER), address_id=None))
        for each in session.scalars(select(Address)):
            session.delete(each)


# The file


@pytest.mark.parametrize("stand_in", [False, True])
def test_says_who_wrote_the_passage_that_a_letter_is_about(any_house: House, stand_in: bool) -> None:
    with any_house.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(stand_in=stand_in))
    any_house.send("Why well?", email=READER, passage=Passage(0, "rest well"))
    any_house.send("And the whole?", email=READER)
    about, whole = exported(any_house)["letters"]
    assert about["about_passage"] == "rest well"
    assert about["about_passage_by"] == {
        "voice": VOICE,
        "stand_in": stand_in,
        "ai_generated": not stand_in,
        "digitalSourceType": None if stand_in else AI_SOURCE,
    }
    assert (whole["about_passage"], whole["about_passage_by"]) == (None, None)


def test_exports_a_letter_with_all_that_became_of_it(any_house: House) -> None:
    sent = any_house.send("As it was.", author="Rhododendron", email=READER)
    comments.change_comment(any_house.site, sent.public_id, Letter("Rhododendron", "As it should be."))
    any_house.reject(sent.public_id, code="spam", reason="For the desk alone.", told="For its author.")
    appeals.appeal(any_house.site, sent.public_id, "But it is not.")
    any_house.approve(sent.public_id, by=any_house.ben)
    (reply,) = any_house.answer("An answer.")
    any_house.approve(reply)
    later = any_house.post("Somebody else's letter.", email=OTHER)
    any_house.answer("After reading it.")
    whole = exported(any_house)
    [letter] = whole["letters"]
    assert [each["words"] for each in letter["versions"]] == ["As it was.", "As it should be.", "As it should be."]
    assert [each["state"] for each in letter["versions"]] == ["superseded", "rejected", "approved"]
    happened = [each["what"] for version in letter["versions"] for each in version["happened"]]
    assert happened == ["sent", "changed", "sent", "rejected", "appealed", "sent", "approved"]
    rejected = next(e for v in letter["versions"] for e in v["happened"] if e["what"] == "rejected")
    assert (rejected["code"], rejected["told"]) == ("spam", "For its author.")
    assert letter["answer"]["words"] == "An answer."
    assert letter["answer"]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert len(letter["shown_to_models"]) == 2, "the call that answered it, and the one that came after"
    assert letter["author_page"].endswith(f"/letters/{sent.token}")
    assert [each["about"] for each in whole["mail"]] == ["to a reader, whether an address is theirs"]
    assert whole["address"]["email"] == READER
    told = json.dumps(whole)
    assert "For the desk alone." not in told
    assert "Somebody else's letter." not in told
    assert "After reading it." not in told
    assert later.public_id not in told


def test_exports_no_answer_that_nobody_approved(house: House) -> None:
    house.post("Do you dream?", email=READER)
    house.answer("A pending answer.")
    [letter] = exported(house)["letters"]
    assert letter["answer"]["state"] == "pending"
    assert "A pending answer." not in json.dumps(letter)


def test_exports_words_that_were_taken_back_and_are_kept(house: House) -> None:
    sent = house.post("Taken back, and kept.", email=READER)
    comments.take_back(house.site, sent.public_id)
    [letter] = exported(house)["letters"]
    assert (letter["state"], letter["versions"][0]["words"]) == ("withdrawn", "Taken back, and kept.")


def test_exports_letters_from_before_addresses_had_records(house: House) -> None:
    house.send("An old letter.", email=READER)
    as_before_migration_0004(house)
    assert [each["versions"][0]["words"] for each in exported(house)["letters"]] == ["An old letter."]


def test_knows_nothing_of_an_address_that_never_came_or_was_erased(house: House) -> None:
    house.send(email=READER)
    assert belongings.export(house.site, OTHER) is None
    belongings.erase_opened(house.site, token(house))
    assert belongings.export(house.site, READER) is None
    assert belongings.to_erase(house.site, READER) is None


# The link


def test_mails_a_link_to_who_wrote_and_to_nobody_else(any_house: House) -> None:
    any_house.send(email=READER)
    belongings.send_link(any_house.site, OTHER)
    assert events(any_house.site) == ["ask"]
    belongings.send_link(any_house.site, READER.title())
    [_, mail] = put_down(any_house.site)
    assert mail.mail is not None
    assert (mail.once.partition(":")[0], mail.mail.to) == ("data", READER)
    assert READER not in mail.mail.text + (mail.mail.html or "")
    with any_house.site.database.reading_sessions() as session:
        assert len(session.scalars(select(Address)).all()) == 1
        assert len(session.scalars(select(Outgoing)).all()) == 2


def test_mails_a_few_links_a_day_to_who_confirmed(house: House) -> None:
    house.send(email=READER)
    confirmed(house.site)
    for _ in range(belongings.MOST_LINKS + 2):
        belongings.send_link(house.site, READER)
    assert events(house.site) == ["ask"] + ["data"] * belongings.MOST_LINKS
    with house.site.database.sessions.begin() as session:
        session.execute(update(Outgoing).values(created_at=now() - timedelta(days=2)))
    belongings.send_link(house.site, READER)
    assert events(house.site) == ["ask"] + ["data"] * (belongings.MOST_LINKS + 1)


@pytest.mark.parametrize("confirms", [False, True])
def test_mails_one_link_in_thirty_days_to_who_wants_no_mail_or_never_confirmed(house: House, confirms: bool) -> None:
    house.send(email=READER)
    if confirms:
        confirmed(house.site)
        with house.site.database.reading_sessions() as session:
            stop = links.to_stop(session, house.site.keys, 1)
        correspondents.stop(house.site, stop)
    for days in (0, 2, 29):
        with house.site.database.sessions.begin() as session:
            session.execute(update(Outgoing).values(created_at=now() - timedelta(days=days)))
        belongings.send_link(house.site, READER)
        assert events(house.site) == ["ask", "data"]
    with house.site.database.sessions.begin() as session:
        session.execute(update(Outgoing).values(created_at=now() - timedelta(days=31)))
    for _ in range(2):
        belongings.send_link(house.site, READER)
    assert events(house.site) == ["ask", "data", "data"]


def test_has_in_its_mail_what_ends_all_mail(house: House) -> None:
    house.send(email=READER)
    belongings.send_link(house.site, READER)
    put = put_down(house.site)[-1]
    assert put.mail is not None
    path = path_to("stop", put)
    mail = received(house.site, put)
    whole = mail["List-Unsubscribe"].strip("<>")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert whole.endswith(path)
    assert whole in (put.mail.html or "")
    correspondents.stop(house.site, path.rpartition("/")[2])
    assert address(house).stopped_at is not None


def test_counts_links_that_are_asked_for_at_once(any_house: House) -> None:
    any_house.send(email=READER)
    confirmed(any_house.site)
    start = Barrier(5)

    def ask() -> None:
        start.wait()
        belongings.send_link(any_house.site, READER)

    threads = [Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events(any_house.site) == ["ask"] + ["data"] * belongings.MOST_LINKS


def test_finds_old_letters_and_those_of_an_address_that_is_no_longer_kept(house: House) -> None:
    house.send("An old letter.", email=READER)
    as_before_migration_0004(house)
    assert [each.words for each in belongings.opened(house.site, token(house)).letters] == ["An old letter."]
    house.send("A new one.", email=READER)
    with house.site.database.sessions.begin() as session:
        session.execute(update(Comment).values(email=None, address_id=session.scalars(select(Address.id)).one()))
        session.execute(update(Outgoing).values(created_at=now() - timedelta(days=31)))
        session.execute(update(Address).values(sealed=None))
    found = belongings.opened(house.site, token(house)).letters
    assert [each.words for each in found] == ["A new one.", "An old letter."]


def test_refuses_what_cannot_be_an_address(house: House) -> None:
    before = house.contents()
    for typed in ("", "reader", "a@b@c.example", "x" * 400 + "@letters.example", "a@b.example\r\nBcc: c@d.example"):
        with pytest.raises(belongings.NoAddress):
            belongings.send_link(house.site, typed)
    assert house.contents() == before


def test_ends_a_link_after_its_hour(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.send(email=READER)
    opens = token(house)
    with house.site.database.reading_sessions() as session:
        later = links._time(session) + belongings.LIFE.total_seconds()
    monkeypatch.setattr(links, "_time", lambda session: later - 5)
    assert len(belongings.opened(house.site, opens).letters) == 1
    monkeypatch.setattr(links, "_time", lambda session: later + 1)
    for act in (belongings.opened, belongings.export_opened, belongings.erase_opened):
        with pytest.raises(NoSuchLink):
            act(house.site, opens)


# Erasure


def test_erases_everything_and_ends_with_it(any_house: House) -> None:
    canary = "heliotrope-canary"
    sent, _ = any_house.exchange(f"I am {canary}.", f"Hello, {canary}.", author=canary, email=READER)
    other = any_house.post("Another.", email=OTHER)
    confirmed(any_house.site)
    any_house.send(f"Mine too, {canary}.", email=READER.upper())
    opens = token(any_house)
    erased = belongings.erase_opened(any_house.site, opens)
    assert (erased.letters, erased.answers) == (2, 1)
    contents = repr(any_house.contents())
    assert canary not in contents
    with any_house.site.database.reading_sessions() as session:
        mine = session.get_one(Address, 1)
        assert (mine.sealed, mine.confirmed_at, mine.language, mine.asks) == (None, None, None, 0)
        assert mine.digest.startswith(erasure.FORGOTTEN)
        assert erasure.address_of(session, any_house.site.keys, READER) is None
        mails = session.scalars(select(Outgoing).where(Outgoing.address_id.is_(None))).all()
        assert [each.sealed for each in mails] == [None] * len(mails)
        assert not session.scalars(select(Outgoing).where(Outgoing.address_id == 1)).all()
        assert len(session.scalars(select(UsedLink)).all()) == 2
        assert ledger.verify(session)[1] is None
    assert any_house.state(any_house.submission(sent.public_id)) is State.WITHDRAWN
    assert any_house.state(any_house.submission(other.public_id)) is State.APPROVED
    for act in (belongings.opened, belongings.export_opened, belongings.erase_opened):
        with pytest.raises(NoSuchLink):
            act(any_house.site, opens)


def test_goes_on_where_an_erasure_stopped_halfway(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        house.send(f"Letter {number}.", email=READER)
    opens = token(house)
    erase, done = erasure.erase_comment, []

    def dies(*args: Any, **more: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(args)
        return erase(*args, **more)

    monkeypatch.setattr(erasure, "erase_comment", dies)
    with pytest.raises(KeyboardInterrupt):
        belongings.erase_opened(house.site, opens)
    monkeypatch.undo()
    assert len(belongings.opened(house.site, opens).letters) == 2
    assert belongings.erase_opened(house.site, opens).letters == 2


def test_leaves_who_wanted_no_mail_alone_also_after_erasure(house: House) -> None:
    house.send(email=READER)
    with house.site.database.reading_sessions() as session:
        stop = links.to_stop(session, house.site.keys, 1)
    correspondents.stop(house.site, stop)
    belongings.erase_opened(house.site, token(house))
    house.send("Somebody writes in their name.", email=READER)
    assert [each.once.partition(":")[0] for each in put_down(house.site)] == []
    assert address(house).stopped_at is not None


def test_asks_nobody_for_ever_by_letters_that_are_erased_again(house: House) -> None:
    for _ in range(3):
        sent = house.send(email=READER)
        erasure.erase_comment(house.site, sent.public_id)
    assert events(house.site) == ["ask"]
    assert (address(house).sealed, address(house).asks) == (None, 1)


def test_keeps_the_address_of_the_letters_that_stay(house: House) -> None:
    first, second = house.send("One.", email=READER), house.send("Two.", email=READER)
    erasure.erase_comment(house.site, first.public_id)
    assert address(house).sealed is not None
    erasure.erase_comment(house.site, second.public_id)
    assert address(house).sealed is None


def test_empties_where_a_letter_from_another_site_came_from(house: House) -> None:
    sent = [house.send(f"Mentioned {number}.") for number in range(2)]
    with house.site.database.sessions.begin() as session:
        for number, each in enumerate(sent):
            comment = session.scalars(select(Comment).where(Comment.public_id == each.public_id)).one()
            session.add(
                Mention(
                    essay_id=comment.essay_id,
                    way="in",
                    source=f"https://heliotrope.example/{number}",
                    target="https://letters.example.org/essays/on-rest#heliotrope",
                    state="done",
                    why="heliotrope",
                    attempts=1,
                    comment_id=comment.id,
                    created_at=now(),
                )
            )
    for each in sent:
        erasure.erase_comment(house.site, each.public_id)
    assert "heliotrope" not in repr(house.contents())
    with house.site.database.reading_sessions() as session:
        assert len({each.source for each in session.scalars(select(Mention))}) == 2
