"""What readers are told of their letters: what happened, once, with the label before a model's words, and no more."""

import re
from pathlib import Path
from threading import Thread
from xml.etree.ElementTree import Element

import html5lib
import pytest
from ground.house import SLUG, House
from ground.postbag import READER, Put, confirmed, events, put_down, received
from ground.workshop import ScriptedModel, Workshop, declines, message
from sqlalchemy import select, update

from bridge import db
from bridge.desk import takedowns
from bridge.letter import comments
from bridge.mail import correspondents, links, outbox
from bridge.records import Address, Comment, Essay, Outgoing
from moderation import moderators
from moderation.release import standing
from moderation.types import Kind

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PARTS = ("text/plain", "text/html")


@pytest.fixture
def told(house: House) -> House:
    """A house with a reader who confirmed their address by a first letter that was taken back."""
    first = house.send("A first letter.", email=READER)
    confirmed(house.site)
    comments.take_back(house.site, first.public_id)
    return house


@pytest.fixture
def workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


def newest(house: House) -> Put:
    return put_down(house.site)[-1]


def parts(house: House, put: Put) -> dict[str, str]:
    mail = received(house.site, put)
    return {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}


def tree(html: str) -> Element:
    parsed: Element = html5lib.parse(html, namespaceHTMLElements=False)
    return parsed


def take_down(house: House, public_id: str) -> None:
    take_down_words(house, house.submission(public_id))


def take_down_essay(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        submission_id = session.scalars(select(Essay.submission_id).where(Essay.slug == SLUG)).one()
    take_down_words(house, submission_id)


def take_down_words(house: House, submission_id: int) -> None:
    with house.site.database.sessions.begin() as session:
        admin = moderators.add(session, "Dora", "admin")
        how = standing(session, [submission_id])[submission_id]
    seen = how.digest
    # A model's words need the second of them too.
    for who in (admin,) if how.kind is Kind.COMMENT else (admin, house.ben):
        takedowns.take_down(
            house.site, submission_id, moderator=who, seen=seen, code="personal_data", reason="x" * 60, by="law"
        )


def test_tells_that_a_letter_was_posted(told: House) -> None:
    sent = told.post(email=READER)
    put = newest(told)
    assert put.mail is not None
    assert (put.mail.to, put.mail.subject) == (READER, "Your letter about “On rest” is posted")
    for kind in PARTS:
        assert "A person read your letter about “On rest” and posted it." in parts(told, put)[kind]
        assert f"http://localhost:8000/letters/{sent.token}" in parts(told, put)[kind]


def test_tells_that_a_letter_was_not_posted_and_why(told: House) -> None:
    sent = told.send(email=READER)
    told.reject(sent.public_id, code="off_topic", reason="Not for the author.", told="Told-canary & more.")
    put = newest(told)
    assert put.once.startswith("not_posted:")
    assert "Told-canary & more." in parts(told, put)["text/plain"]
    assert "Told-canary &amp; more." in parts(told, put)["text/html"]
    for kind in PARTS:
        assert "Nothing to do with the essay" in parts(told, put)[kind]
        assert "ask for another person" in parts(told, put)[kind]
        assert "Not for the author." not in parts(told, put)[kind]


def test_tells_of_an_answer_when_it_is_posted_and_not_before(told: House) -> None:
    told.post(email=READER)
    (reply,) = told.answer("Answer-canary, *slowly*.")
    assert events(told.site)[-1] == "posted"
    told.approve(reply)
    put = newest(told)
    assert put.mail is not None
    assert put.mail.subject == "Test Voice answered your letter"
    text, html = (parts(told, put)[kind] for kind in PARTS)
    assert "Answer-canary, *slowly*." in text
    assert "Answer-canary, <em>slowly</em>." in html
    for said in (text, html):
        assert f"http://localhost:8000/replies/{reply}" in said
        assert "It speaks for itself, not for the people who host it." in said


def test_puts_the_label_before_a_models_words_for_people_and_machines(told: House) -> None:
    told.post(email=READER)
    (reply,) = told.answer("Answer-canary.")
    told.approve(reply)
    text, html = (parts(told, newest(told))[kind] for kind in PARTS)
    assert text.split()[0] == "AI"
    seen = re.sub(r"<(style|title)>.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL).split()
    assert seen[0] == "AI"
    [mark] = [each for each in tree(html).iter("meta") if each.get("itemprop") == "digitalSourceType"]
    assert mark.get("content") == SOURCE
    assert received(told.site, newest(told))["X-Digital-Source-Type"] == SOURCE


def test_marks_a_rehearsed_answer_as_what_it_is(told: House) -> None:
    told.post(email=READER)
    (reply,) = told.answer("Answer-canary.", rehearsed=True)
    told.approve(reply)
    put = newest(told)
    text, html = (parts(told, put)[kind] for kind in PARTS)
    assert text.split()[0] == "REHEARSAL"
    assert "REHEARSAL" in html
    assert SOURCE not in text + html
    assert received(told.site, put)["X-Digital-Source-Type"] is None
    assert received(told.site, put)["Subject"] == "Test Voice (rehearsal) answered your letter"


def test_tells_of_a_veto_without_a_word_of_the_answer(told: House) -> None:
    told.post(email=READER)
    (reply,) = told.answer("Answer-canary.")
    told.reject(reply)
    assert events(told.site)[-1] == "posted"
    told.reject(reply, by=told.ben)
    assert events(told.site)[-1] == "vetoed"
    assert "Answer-canary" not in "".join(each.words for each in put_down(told.site) if each.mail)


def test_tells_that_a_letter_was_taken_down(told: House) -> None:
    sent = told.post(email=READER)
    take_down(told, sent.public_id)
    assert events(told.site)[-1] == "taken_down"
    for kind in PARTS:
        assert "The law asks for it." in parts(told, newest(told))[kind]
        assert "Private facts about a person" in parts(told, newest(told))[kind]


def test_sends_no_answer_that_was_taken_down_meanwhile(told: House) -> None:
    told.post(email=READER)
    (reply,) = told.answer("Answer-canary.")
    told.approve(reply)
    take_down(told, reply)
    last = newest(told)
    assert (last.once.partition(":")[0], last.state, last.mail) == ("answered", "refused", None)


@pytest.mark.parametrize("letters", [1, 2])
def test_sends_no_catch_up_with_an_answer_that_was_taken_down_meanwhile(house: House, letters: int) -> None:
    _, reply = house.exchange("A letter.", "Answer-canary.", email=READER)
    for number in range(letters - 1):
        house.post(f"Another, {number}.", email=READER)
    confirmed(house.site)
    assert "Answer-canary." in newest(house).words
    take_down(house, reply)
    last = newest(house)
    assert (last.once.partition(":")[0], last.state, last.mail) == ("confirmed", "refused", None)


def test_leaves_a_catch_up_alone_when_another_readers_answer_is_taken_down(house: House) -> None:
    _, reply = house.exchange("A letter.", "Answer-canary.")
    house.post("Mine.", email=READER)
    confirmed(house.site)
    take_down(house, reply)
    assert newest(house).state == "unsent"


def test_sends_nothing_of_the_letters_under_an_essay_that_was_taken_down(told: House) -> None:
    told.exchange("A letter.", "Answer-canary.", email=READER)
    told.essay("another")
    told.post("Under another essay.", slug="another", email=READER)
    take_down_essay(told)
    assert [(each.once.partition(":")[0], each.state) for each in put_down(told.site)] == [
        ("ask", "refused"),
        ("posted", "refused"),
        ("answered", "refused"),
        ("posted", "unsent"),
    ]
    assert "Another" in newest(told).words


def test_catches_up_on_nothing_under_an_essay_that_was_taken_down(house: House) -> None:
    house.exchange("A letter.", "Answer-canary.", email=READER)
    house.post("Another.", email=READER)
    confirmed(house.site)
    assert "Answer-canary." in newest(house).words
    take_down_essay(house)
    assert (newest(house).once.partition(":")[0], newest(house).mail) == ("confirmed", None)


def test_tells_who_confirms_after_an_essays_takedown_nothing_of_its_letters(house: House) -> None:
    house.exchange("A letter.", "Answer-canary.", email=READER)
    take_down_essay(house)
    confirmed(house.site)
    assert events(house.site) == ["ask"]


def test_tells_of_no_answer_that_is_approved_after_its_essays_takedown(told: House) -> None:
    told.post("A letter.", email=READER)
    (reply,) = told.answer("Answer-canary.")
    take_down_essay(told)
    told.approve(reply)
    assert "answered" not in events(told.site)


def test_tells_nobody_of_what_they_did_themselves(told: House) -> None:
    sent, _ = told.exchange(email=READER)
    before = len(put_down(told.site))
    comments.take_back(told.site, sent.public_id)
    after = put_down(told.site)
    assert len(after) == before
    assert all(each.mail is None for each in after if each.comment_id is not None)


def test_tells_nobody_who_gave_no_address_or_has_not_said_yes(house: House) -> None:
    house.exchange("No address.")
    house.exchange("Not confirmed.", email=READER)
    assert events(house.site) == ["ask"]


@pytest.mark.parametrize(
    ("says", "event", "told_of"),
    [
        (message(declines(), stop="tool_use"), "declined", "chose not to answer"),
        (message(stop="refusal"), "withheld", "That was not Test Voice, and not a person here."),
    ],
)
def test_tells_that_no_answer_comes(workshop: Workshop, says: dict[str, object], event: str, told_of: str) -> None:
    comment_id = workshop.letter("Do you dream?", email=READER)
    confirmed(workshop.site)
    workshop.approve(workshop.submission(comment_id))
    workshop.sit(ScriptedModel(says))
    assert events(workshop.site) == ["ask", "posted", event]
    assert told_of in put_down(workshop.site)[-1].words
    assert put_down(workshop.site)[-1].comment_id == comment_id


def test_tells_who_confirms_late_of_all_that_happened_in_one_mail(house: House) -> None:
    house.exchange("The first.", "Answer-canary.", email=READER)
    refused = house.send("The second.", email=READER)
    house.reject(refused.public_id, code="spam")
    house.send("The third waits.", email=READER)
    own = house.post("The fourth.", email=READER)
    comments.take_back(house.site, own.public_id)
    confirmed(house.site)
    assert events(house.site) == ["ask", "confirmed"]
    text, html = (parts(house, newest(house))[kind] for kind in PARTS)
    for said in (text, html):
        assert "Answer-canary." in said
        assert "Advertising or unrelated links" in said
        assert said.count("/letters/") == 2
    confirmed(house.site)
    assert events(house.site) == ["ask", "confirmed"]


def test_loses_nothing_that_happens_while_an_address_is_confirmed(any_house: House) -> None:
    site = any_house.site
    sent = [any_house.send(f"Letter {number}.", email=READER).public_id for number in range(4)]
    with site.database.reading_sessions() as session:
        token = links.to_confirm(session, site.keys, session.scalars(select(Address.id)).one())
    threads = [Thread(target=any_house.approve, args=(each,)) for each in sent]
    threads.insert(2, Thread(target=correspondents.confirm, args=(site, token)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [each for each in put_down(site) if not each.once.startswith("ask:")]
    # Each letter in one mail, in its own or in the one after the confirmation.
    found = [link for each in every for link in re.findall(r"/letters/(\S+)", each.mail.text if each.mail else "")]
    assert len(found) == len(set(found)) == 4


def test_puts_each_down_in_the_transaction_of_what_it_tells(told: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = told.send(email=READER)
    before = events(told.site)

    def dies(*_: object, **__: object) -> bool:
        raise RuntimeError

    monkeypatch.setattr("bridge.mail.outbox.put_mail", dies)
    with pytest.raises(RuntimeError):
        told.approve(sent.public_id)
    monkeypatch.undo()
    assert events(told.site) == before
    told.approve(sent.public_id)
    assert events(told.site) == [*before, "posted"]


def test_speaks_the_readers_language_and_links_to_it(told: House) -> None:
    told.post(email=READER, language="ar")
    html = tree(parts(told, newest(told))["text/html"])
    assert (html.get("lang"), html.get("dir")) == ("ar", "rtl")
    assert all("lang=ar" in str(each.get("href")) for each in html.iter("a"))


def test_ends_and_keeps_together_a_letters_mails(told: House) -> None:
    told.exchange(email=READER)
    told.post("Another.", email=READER)
    posted, answered, another = (received(told.site, each) for each in put_down(told.site)[-3:])
    for mail in (posted, answered, another):
        link = re.fullmatch(r"<http://localhost:8000(/mail/stop/[A-Za-z0-9._-]+)>", mail["List-Unsubscribe"])
        assert link is not None
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert mail["Auto-Submitted"] == "auto-generated"
    assert posted["References"] == answered["References"] == answered["In-Reply-To"]
    assert posted["References"] != another["References"]
    assert posted["Message-ID"] != answered["Message-ID"]


def test_has_no_address_in_any_link_and_nothing_from_elsewhere(told: House) -> None:
    told.exchange(answer="![canary](https://evil.example/x.png) and [a link](https://example.org/)", email=READER)
    for put in put_down(told.site)[1:]:
        html = parts(told, put)["text/html"]
        assert "letters.example" not in html
        assert not {"img", "link", "script", "iframe", "object", "video"} & {each.tag for each in tree(html).iter()}
        assert "url(" not in html


def test_keeps_the_mails_of_a_reader_to_be_found_again(told: House) -> None:
    sent = told.post(email=READER)
    with told.site.database.reading_sessions() as session:
        comment = session.scalars(select(Comment).where(Comment.public_id == sent.public_id)).one()
        row = session.scalars(select(Outgoing).order_by(Outgoing.id.desc())).first()
        assert row is not None
        assert (row.comment_id, row.address_id) == (comment.id, comment.address_id)


def test_tells_nothing_at_an_address_that_cannot_be_opened(told: House) -> None:
    with told.site.database.sessions.begin() as session:
        session.execute(update(Address).values(sealed=b"of another key"))
    before = events(told.site)
    told.post(email=READER)
    assert events(told.site) == before


def test_leaves_alone_what_others_are_told_when_a_letter_is_taken_back(told: House) -> None:
    with told.site.database.sessions.begin() as session:
        outbox.put_mail(session, told.site.keys, once="told:1", to="ada@desk.example", subject="It waits", text="x")
    other = told.post("Another.", email=READER)
    for gave in (None, READER):
        sent = told.send(f"From {gave}.", email=gave)
        comments.take_back(told.site, sent.public_id)
    with told.site.database.reading_sessions() as session:
        rows = {row.once: row.state for row in session.scalars(select(Outgoing))}
        kept = session.scalars(select(Comment.id).where(Comment.public_id == other.public_id)).one()
    assert rows["told:1"] == rows[f"posted:{kept}"] == "unsent"


def test_takes_back_with_a_letter_what_was_to_tell_of_it_among_others(house: House) -> None:
    first, _ = house.exchange("The first.", "Answer-canary.", email=READER)
    house.post("The second.", email=READER)
    confirmed(house.site)
    comments.take_back(house.site, first.public_id)
    assert all(each.mail is None for each in put_down(house.site))
