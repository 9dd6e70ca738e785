"""The shelf: what is stored is what is released, on every surface, after everything that can change it."""

import gzip
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House
from markupsafe import Markup
from sqlalchemy import select, text

from bridge import outdated
from bridge.app import create_app
from bridge.essay import essays, thread
from bridge.letter import comments, erasure
from bridge.page import packing, printing, shelf
from bridge.records import Comment, ReplyRequest, RequestState, StoredLetters, StoredPage, Voice
from bridge.text import language
from bridge.text.passages import Passage
from bridge.voice import voices
from moderation.types import State


def stored(house: House) -> dict[str, str]:
    """Return what is stored, opened, by its key."""
    with house.site.database.reading_sessions() as session:
        rows = session.execute(select(StoredPage.key, StoredPage.body))
        return {key: gzip.decompress(body).decode() for key, body in rows}


def fresh(house: House) -> dict[str, str]:
    """Return what would be stored if all of it was printed now."""
    settings, told = house.site.settings, {}
    with house.site.database.reading_sessions() as session:
        for essay, _ in essays.everyone(session):
            try:
                found = essays.published(session, essay.slug)
            except essays.NoSuchEssay:
                continue
            for code in settings.spoken:
                with language.speaking(code, settings.spoken):
                    for page in range(1, thread.pages(session, essay.id) + 1):
                        for surface in shelf.SURFACES:
                            whole = printing.whole(session, settings, found, page, surface)
                            told[shelf.key(surface, essay.slug, page, code)] = whole
            posted = thread.posted_comments(session, essay.id, limit=100_000)
            for after in range(0, max(1, len(posted)), shelf.LISTED):
                page = posted[after : after + shelf.LISTED]
                following = after + shelf.LISTED if len(posted) > after + shelf.LISTED else None
                html = printing.letters(session, found, page)
                told[shelf.list_key(essay.slug, after)] = printing.as_json(
                    printing.listed(found, page, html, following=following)
                )
    return told


def nothing(house: House) -> None:
    """Let nothing happen after the letters and answers came."""


def approves_another(house: House) -> None:
    house.post("Another one.")


def posts_a_further_answer(house: House) -> None:
    house.post("And you?")
    for reply in house.answer("A further answer."):
        house.approve(reply)


def takes_back_a_letter(house: House) -> None:
    comments.take_back(house.site, first_letter(house))


def erases_a_letter(house: House) -> None:
    erasure.erase_comment(house.site, first_letter(house))


def takes_an_answer_down(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        found = essays.published(session, SLUG)
        posted = thread.posted_comments(session, found.essay.id)
    reply = posted[0].reply
    assert reply is not None
    house.take_down(house.submission(reply.public_id))


def takes_a_letter_down(house: House) -> None:
    house.take_down(house.submission(first_letter(house)))


def first_letter(house: House) -> str:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Comment.public_id).where(Comment.place == 1)).one()


EVENTS: Mapping[str, Callable[[House], None]] = {
    act.__name__: act
    for act in (
        nothing,
        approves_another,
        posts_a_further_answer,
        takes_back_a_letter,
        erases_a_letter,
        takes_an_answer_down,
        takes_a_letter_down,
    )
}


@pytest.mark.parametrize("event", EVENTS)
def test_stores_what_is_released_in_the_act_that_changes_it(any_house: House, event: str) -> None:
    any_house.essay("another")
    any_house.exchange("Do you dream?", "I do not.")
    any_house.post("A letter without an answer.")
    EVENTS[event](any_house)
    kept = stored(any_house)
    assert {key: kept.get(key) for key in fresh(any_house)} == fresh(any_house)


@pytest.mark.parametrize("event", ["takes_back_a_letter", "erases_a_letter", "takes_a_letter_down"])
def test_keeps_no_word_of_a_letter_that_is_out_no_more(house: House, event: str) -> None:
    house.exchange("Canaryone sings.", "Canarytwo answers.")
    assert any("Canaryone" in page for page in stored(house).values())
    EVENTS[event](house)
    kept = [*stored(house).values(), *letters_of(house)]
    assert not [page for page in kept if "Canaryone" in page]


@pytest.mark.parametrize("event", ["takes_back_a_letter", "erases_a_letter", "takes_a_letter_down"])
def test_keeps_no_word_in_a_language_that_is_spoken_no_more(house: House, event: str) -> None:
    house.exchange("Canaryone sings.", "Canarytwo answers.")
    assert any("/de/" in key and "Canaryone" in page for key, page in stored(house).items())
    english = house.site.settings.model_copy(update={"languages": "en"})
    EVENTS[event](House(replace(house.site, settings=english), house.tokens))
    kept = [*stored(house).values(), *letters_of(house)]
    assert not [page for page in kept if "Canaryone" in page]


def test_drops_the_pages_of_a_language_that_is_spoken_no_more(house: House) -> None:
    house.exchange()
    english = replace(house.site, settings=house.site.settings.model_copy(update={"languages": "en"}))
    with english.database.reading_sessions() as session:
        [essay_id] = shelf.out_of_date(session, english.settings)
    shelf.bring_up_to_date(english, essay_id)
    assert {key.split("/")[1] for key in stored(house) if not key.startswith("thread/")} == {"en"}


def letters_of(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [packing.opened(each).decode() for each in session.scalars(select(StoredLetters.deflated))]


def test_keeps_nothing_of_an_essay_that_is_taken_down(house: House) -> None:
    house.exchange()
    house.take_down(house.submission_of_essay())
    assert stored(house) == {}
    assert letters_of(house) == []


@pytest.mark.parametrize("state", [RequestState.DECLINED, RequestState.NOT_CHOSEN, RequestState.WITHHELD])
def test_prints_what_came_of_a_request_once_the_job_ran(house: House, state: RequestState) -> None:
    sent = house.post()
    house.settle(sent.public_id, state)
    assert stored(house) == fresh(house)


def test_marks_the_page_when_a_voice_declines(house: House) -> None:
    house.post()
    tool = {"type": "tool_use", "id": "d", "name": "decline", "input": {"reason": "No."}}
    house.hear({"content": [tool], "stop_reason": "tool_use"})
    with house.site.database.reading_sessions() as session:
        assert shelf.out_of_date(session, house.site.settings) != []
    house.print()
    assert stored(house) == fresh(house)


def test_prints_every_page_of_a_voice_that_is_paused_and_resumed(house: House) -> None:
    house.exchange()
    for step in (lambda s, v: voices.pause(s, v, "Why not."), voices.resume):
        with house.site.database.sessions.begin() as session:
            step(session, session.scalars(select(Voice)).first())
        house.print()
        assert stored(house) == fresh(house)
        paused = step is not voices.resume
        assert all(("is not being asked just now" in page) is paused for page in pages_in_english(house))


def pages_in_english(house: House) -> list[str]:
    return [page for key, page in stored(house).items() if key.startswith(("page/en/", "embed/en/"))]


def test_prints_a_closed_essay_anew(house: House) -> None:
    house.exchange()
    essays.close(house.site, SLUG, "Enough was said.")
    house.print()
    assert stored(house) == fresh(house)
    assert all("Enough was said." in page for key, page in stored(house).items() if key.startswith("page/en/"))


def test_serves_the_old_page_until_a_new_version_is_printed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.exchange()
    before = stored(house)
    with house.site.database.sessions.begin() as session:
        session.execute(text("UPDATE stored_pages SET version = 'older'"))
        session.execute(text("UPDATE stored_letters SET version = 'older'"))
    assert stored(house) == before
    with house.site.database.reading_sessions() as session:
        assert len(shelf.out_of_date(session, house.site.settings)) == 1
    house.print()
    with house.site.database.reading_sessions() as session:
        assert shelf.out_of_date(session, house.site.settings) == []
        assert set(session.scalars(select(StoredPage.version))) == {printing.version(house.site.settings)}


def test_prints_what_is_missing(house: House) -> None:
    house.exchange()
    with house.site.database.sessions.begin() as session:
        session.execute(text("DELETE FROM stored_pages"))
    house.print()
    assert stored(house) == fresh(house)


@pytest.mark.parametrize("left", ["UPDATE stored_pages SET version = 'older'", "DELETE FROM stored_pages"])
@pytest.mark.parametrize("where", ["page <= 0", "page = 0", "page = -2"])
def test_finds_lists_that_were_left_old_or_missing(
    any_house: House, left: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job died when the pages were printed, and the lists were not."""
    monkeypatch.setattr(shelf, "LISTED", 2)
    any_house.essay("another")
    for number in range(6):
        any_house.post(f"Letter {number}.")
    with any_house.site.database.reading_sessions() as session:
        assert shelf.out_of_date(session, any_house.site.settings) == []
    with any_house.site.database.sessions.begin() as session:
        session.execute(text(f"{left} WHERE {where} AND key LIKE 'thread/{SLUG}/%'"))
    with any_house.site.database.reading_sessions() as session:
        assert len(shelf.out_of_date(session, any_house.site.settings)) == 1
    any_house.print()
    with any_house.site.database.reading_sessions() as session:
        assert shelf.out_of_date(session, any_house.site.settings) == []
        assert set(session.scalars(select(StoredPage.version))) == {printing.version(any_house.site.settings)}
    assert stored(any_house) == fresh(any_house)


def test_does_not_let_tampered_words_stop_a_decision_on_others(house: House) -> None:
    sent, _ = house.exchange("Do you dream?", "I do not.")
    other = house.send("Another.")
    raw = sqlite3.connect(house.site.settings.data / "emeritus.db")
    triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'submissions'"
    for (name,) in raw.execute(triggers).fetchall():
        raw.execute(f"DROP TRIGGER {name}")
    raw.execute("UPDATE submissions SET body = 'Forged.' WHERE id = ?", (house.submission(sent.public_id),))
    raw.commit()
    raw.close()
    house.approve(other.public_id)
    assert house.state(house.submission(other.public_id)) is State.APPROVED
    assert not [page for page in stored(house).values() if "Forged." in page]


@pytest.mark.parametrize("event", ["takes_back_a_letter", "erases_a_letter"])
def test_puts_nothing_over_what_was_printed_after_a_withdrawal(
    any_house: House, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has read the letter when its author takes it back: who comes second prints last."""
    any_house.exchange("Canaryone sings.", "Canarytwo answers.")
    with any_house.site.database.sessions.begin() as session:
        outdated.mark_all(session, 1)
    has_read, may_go_on = threading.Event(), threading.Event()
    printed = printing.printed_letters

    def slowly(*given: Any) -> str:
        told = printed(*given)
        if threading.current_thread() is job:
            has_read.set()
            may_go_on.wait(30)
        return told

    monkeypatch.setattr(printing, "printed_letters", slowly)
    job = threading.Thread(target=any_house.print)
    author = threading.Thread(target=EVENTS[event], args=(any_house,))
    job.start()
    assert has_read.wait(30)
    author.start()
    author.join(2)  # It waits for the job, and would be done by now if it did not.
    may_go_on.set()
    author.join(30)
    job.join(30)
    any_house.print()
    assert stored(any_house) == fresh(any_house)
    assert not [page for page in stored(any_house).values() if "Canaryone" in page]


def test_loses_no_outcome_to_a_decision_on_another_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "LETTERS_A_PAGE", 1)
    sent = house.post("On the first page.")
    house.post("On the second.")
    with house.site.database.sessions.begin() as session:
        comment = session.scalars(select(Comment).where(Comment.public_id == sent.public_id)).one()
        session.get_one(ReplyRequest, comment.id).state = RequestState.DECLINED.value
        outdated.mark_letters(session, comment.id)
    house.post("On the third.")
    house.print()
    assert stored(house) == fresh(house)


def test_prints_nothing_of_an_essay_that_is_out_no_more(house: House) -> None:
    house.take_down(house.submission_of_essay())
    with house.site.database.reading_sessions() as session:
        assert shelf.out_of_date(session, house.site.settings) == []


# Places and pages.


def test_gives_each_letter_the_next_place_and_keeps_it(house: House) -> None:
    first, second = house.send("One."), house.send("Two.")
    house.approve(second.public_id)
    house.approve(first.public_id)
    comments.take_back(house.site, second.public_id)
    house.post("Three.")
    with house.site.database.reading_sessions() as session:
        rows = session.execute(select(Comment.place, Comment.page, Comment.public_id).order_by(Comment.place))
        assert [tuple(row) for row in rows][:2] == [(1, 1, second.public_id), (2, 1, first.public_id)]


def test_puts_what_answers_a_letter_on_its_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "LETTERS_A_PAGE", 2)
    _, reply = house.exchange("One.", "An answer.")
    house.post("Two.")
    house.post("Three.")
    below = house.post("In answer.", parent=reply)
    beyond = [house.post(f"In answer {number}.", parent=reply) for number in range(2)]
    with house.site.database.reading_sessions() as session:
        rows = session.execute(select(Comment.public_id, Comment.page))
        pages = {public_id: page for public_id, page in rows}  # noqa: C416
    assert (pages[below.public_id], pages[beyond[0].public_id], pages[beyond[1].public_id]) == (1, 1, 2)
    kept = stored(house)
    assert {key: kept.get(key) for key in fresh(house)} == fresh(house)


def test_leads_from_each_page_to_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "LETTERS_A_PAGE", 1)
    for number in range(3):
        house.post(f"Letter {number}.")
    kept = stored(house)
    assert kept == fresh(house)
    assert 'rel="next"' in kept[shelf.key("page", SLUG, 2, "en")]
    assert 'rel="next"' not in kept[shelf.key("page", SLUG, 3, "en")]


def test_counts_letters_about_a_passage_wherever_they_stand(any_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "LETTERS_A_PAGE", 1)
    any_house.post("About the whole.")
    first, second = (any_house.post("Why well?", passage=Passage(0, words)) for words in ("rest well", "well"))
    whole = Passage(0, "I rest well.")
    any_house.send("Waiting.", passage=whole)
    any_house.reject(any_house.send("Rejected.", passage=whole).public_id, code="spam")
    mark = '<a class="about-it" href="/essays/on-rest?page={}#letter-{}" data-quoted="{}">Letters: {}</a>'
    for leaves, shown in (
        (None, mark.format(2, first.public_id, "2-11", 2)),
        (first, mark.format(3, second.public_id, "7-11", 1)),
        (second, None),
    ):
        if leaves is not None:
            comments.take_back(any_house.site, leaves.public_id)
        assert stored(any_house) == fresh(any_house)
        page = stored(any_house)[shelf.key("page", SLUG, 1, "en")]
        assert page.count('class="about-it"') == (shown is not None)
        assert shown is None or shown in page


def test_leads_to_a_letter_on_the_same_page_without_loading_it(house: House) -> None:
    sent = house.post("Why well?", passage=Passage(0, "rest well"))
    for code in house.site.settings.spoken:
        page = stored(house)[shelf.key("page", SLUG, 1, code)]
        assert f'class="about-it" href="#letter-{sent.public_id}"' in page


def test_keeps_what_is_counted_when_an_essay_is_closed(house: House) -> None:
    house.post("Why well?", passage=Passage(0, "rest well"))
    essays.close(house.site, SLUG, "Enough was said.")
    house.print()
    page = stored(house)[shelf.key("page", SLUG, 1, "en")]
    assert page.count('class="about-it"') == 1
    assert 'class="about-block"' not in page


@pytest.mark.parametrize(
    ("quoted", "stretches"),
    [
        ([], ""),
        (["one two"], "0-7"),
        (["two", "one"], "0-3 4-7"),
        (["one t", "two 😀", "wo"], "0-10"),
        (["😀", "a < b"], "8-10 11-16"),
        (["nowhere", "b"], "15-16"),
    ],
)
def test_tells_which_stretches_of_a_block_are_quoted(quoted: list[str], stretches: str) -> None:
    block = Markup("<ul>\n<li>one</li>\n<li><em>two</em> 😀\na &lt; b</li>\n</ul>\n")
    assert printing.quoted_in(block, quoted) == stretches


def test_lists_hundreds_for_the_api(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "LISTED", 2)
    for number in range(5):
        house.post(f"Letter {number}.")
    kept = stored(house)
    assert {key: kept.get(key) for key in fresh(house)} == fresh(house)


# Reading.


@pytest.fixture
def reader(house: House) -> FlaskClient:
    house.exchange("Do you dream?", "I do not.")
    return create_app(house.site).test_client()


ADDRESSES = [f"/essays/{SLUG}", f"/essays/{SLUG}/embed", f"/api/v1/essays/{SLUG}/thread"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_reads_a_page_with_one_statement_and_prints_nothing(
    house: House, reader: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a reader's GET printed a page, or opened a session")

    monkeypatch.setattr(printing, "printed_around", fail)
    monkeypatch.setattr(type(house.site.database), "reading_sessions", property(fail), raising=False)
    asked = []
    raw = house.site.database.read_one
    monkeypatch.setattr(
        type(house.site.database), "read_one", lambda _self, *given: asked.append(given) or raw(*given), raising=True
    )
    answer = reader.get(address, headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"I do not." in gzip.decompress(answer.data)
    assert len(asked) == 1


@pytest.mark.parametrize("address", ADDRESSES)
def test_says_that_nothing_changed(reader: FlaskClient, address: str) -> None:
    first = reader.get(address)
    again = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_changes_the_tag_with_the_page(house: House, reader: FlaskClient, address: str) -> None:
    first = reader.get(address)
    house.post("Another.")
    again = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_unpacks_for_whoever_takes_no_gzip(reader: FlaskClient) -> None:
    plain = reader.get(ADDRESSES[0], headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in plain.headers
    assert "I do not." in plain.text


def test_speaks_the_language_that_is_asked_for(reader: FlaskClient) -> None:
    assert 'lang="de"' in reader.get(ADDRESSES[0], headers={"Accept-Language": "de-AT, en;q=0.5"}).text
    assert 'dir="rtl"' in reader.get(ADDRESSES[0] + "?lang=ar").text
    assert 'lang="en"' in reader.get(ADDRESSES[0] + "?lang=xx", headers={"Accept-Language": "fr"}).text


def test_answers_the_same_where_nothing_is_stored(house: House, reader: FlaskClient) -> None:
    kept = {address: reader.get(address).text for address in ADDRESSES}
    with house.site.database.sessions.begin() as session:
        session.execute(text("DELETE FROM stored_pages"))
    assert {address: reader.get(address).text for address in ADDRESSES} == kept


def test_answers_to_a_head_without_a_body(reader: FlaskClient) -> None:
    answer = reader.head(ADDRESSES[0])
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("page", ["0", "-1", "7", "x", "01", "1&page=x", "99999999999"])
def test_knows_no_page_that_is_not_there(reader: FlaskClient, page: str) -> None:
    assert reader.get(f"{ADDRESSES[0]}?page={page}").status_code == 404
