"""Reports of posted words: received once, read at the desk beside the words, closed, told of."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from ground.house import SLUG, House
from sqlalchemy import func, select

from bridge.essay import essays, thread
from bridge.letter import comments, reports
from bridge.letter.reports import NoSuchReport, ReportClosed
from bridge.records import Report
from bridge.text import words
from moderation import base, gate
from moderation.base import now
from moderation.errors import UnknownReasonCode


def open_reports(house: House) -> list[reports.Open]:
    with house.site.database.reading_sessions() as session:
        return reports.open_reports(session)


def number(house: House) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalar(select(func.count()).select_from(Report)) or 0


def test_stands_at_the_desk_beside_the_words_and_what_they_stand_under(house: House) -> None:
    sent, reply = house.exchange("Do you dream?", "I do not.")
    later = house.post("Really?", parent=reply)
    reports.receive_report(house.site, sent.public_id, "abuse", "  It is\r\nrude. ")
    reports.receive_report(house.site, reply, "deception", None)
    reports.receive_report(house.site, later.public_id, "spam", " ")
    reports.receive_report(house.site, SLUG, "harm", "It harms.")
    letter, answer, below, essay = open_reports(house)
    assert letter.words is not None
    assert (letter.words.body, letter.report.words, letter.meaning) == (
        "Do you dream?",
        "It is\nrude.",
        "Insults, threats or hatred",
    )
    assert (letter.essay.slug, letter.answers) == (SLUG, None)
    assert answer.answers is not None
    assert answer.answers.body == "Do you dream?"
    assert answer.report.words is None
    assert below.answers is not None
    assert (below.answers.body, below.report.words) == ("I do not.", None)
    assert essay.words is not None
    assert essay.words == essay.essay_words
    with house.site.database.reading_sessions() as session:
        assert [each.report.id for each in reports.open_reports(session, after=letter.report.id, limit=2)] == [
            answer.report.id,
            below.report.id,
        ]
        assert reports.number_open(session) == 4


def test_takes_a_code_of_the_list_for_those_words_only(house: House) -> None:
    sent, reply = house.exchange()
    for of, code in ((sent.public_id, "harm"), (reply, "spam"), (SLUG, "abuse"), (SLUG, "")):
        with pytest.raises(UnknownReasonCode):
            reports.receive_report(house.site, of, code, None)
    assert number(house) == 0


def test_refuses_more_words_than_anybody_reads(house: House) -> None:
    reports.receive_report(house.site, SLUG, "harm", "x" * 2000)
    with pytest.raises(words.TooLong) as refused:
        reports.receive_report(house.site, SLUG, "harm", "x" * 2001)
    assert refused.value.field == "words"
    with pytest.raises(words.Unreadable):
        reports.receive_report(house.site, SLUG, "harm", "\x00")
    assert number(house) == 1


def test_takes_no_report_of_what_is_not_posted(house: House) -> None:
    waiting = house.send()
    with pytest.raises(thread.NotPublic):
        reports.receive_report(house.site, waiting.public_id, "spam", None)
    sent, reply = house.exchange()
    comments.take_back(house.site, sent.public_id)
    for gone in (sent.public_id, reply):
        with pytest.raises(thread.TakenBack):
            reports.receive_report(house.site, gone, "other", None)
    for nothing in ("0" * 32, "no-such-essay", ""):
        with pytest.raises(thread.NotPublic):
            reports.receive_report(house.site, nothing, "other", None)
    under = house.essay("another")
    letter = house.post("Under it.", slug="another")
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, under, by="operator")
    for of in ("another", letter.public_id):
        with pytest.raises(essays.EssayGone):
            reports.receive_report(house.site, of, "other", None)
    assert number(house) == 0


def test_takes_a_double_click_for_one_report(any_house: House) -> None:
    sent = any_house.post()
    together = Barrier(8)

    def report(_: int) -> str:
        together.wait()
        return reports.receive_report(any_house.site, sent.public_id, "abuse", "It is rude.")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(report, range(8)))) == 1
    assert number(any_house) == 1


def test_takes_other_words_another_code_and_a_later_hour_for_other_reports(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = house.post()
    tokens = {
        reports.receive_report(house.site, sent.public_id, code, said)
        for code, said in (("abuse", None), ("abuse", "Rude."), ("spam", None), ("abuse", None))
    }
    later = now() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(reports, "now", lambda: later)
    tokens.add(reports.receive_report(house.site, sent.public_id, "abuse", None))
    assert (len(tokens), number(house)) == (4, 4)


def test_tells_its_reporter_that_the_words_stay_and_why(house: House) -> None:
    sent = house.post()
    token = reports.receive_report(house.site, sent.public_id, "abuse", None)
    assert reports.made(house.site, token).report.closed_at is None
    (listed,) = open_reports(house)
    reports.keep_words(house.site, listed.report.id, moderator=house.ben, told="It is blunt, not abusive.")
    told = reports.made(house.site, token)
    assert (told.report.outcome, told.report.told) == ("kept", "It is blunt, not abusive.")
    assert (told.report.moderator_id, told.meaning) == (house.ben, "Insults, threats or hatred")
    assert open_reports(house) == []
    again = reports.receive_report(house.site, sent.public_id, "abuse", None)
    assert again != token, "a closed report is not the one that somebody makes now"


def test_is_closed_once_and_not_without_words(house: House) -> None:
    reports.receive_report(house.site, SLUG, "harm", None)
    (listed,) = open_reports(house)
    with pytest.raises(words.NothingWritten):
        reports.keep_words(house.site, listed.report.id, moderator=house.ada, told=" ")
    reports.keep_words(house.site, listed.report.id, moderator=house.ada, told="It stays.")
    before = house.contents()
    with pytest.raises(ReportClosed):
        reports.keep_words(house.site, listed.report.id, moderator=house.ben, told="It stays, too.")
    with pytest.raises(NoSuchReport):
        reports.keep_words(house.site, 999, moderator=house.ben, told="It stays.")
    assert house.contents() == before


def test_is_closed_with_words_that_their_author_takes_back(house: House) -> None:
    sent, reply = house.exchange()
    tokens = [reports.receive_report(house.site, of, "other", None) for of in (sent.public_id, reply)]
    comments.take_back(house.site, sent.public_id)
    for token in tokens:
        told = reports.made(house.site, token).report
        assert (told.outcome, told.moderator_id, told.told) == ("taken_down", None, None)


def test_opens_for_its_own_link_only(house: House) -> None:
    sent = house.post()
    token = reports.receive_report(house.site, sent.public_id, "abuse", None)
    signed = house.site.keys.signed
    for wrong in ("1", token[:-1], f"2{token[1:]}", sent.token, signed("author's page", "1"), signed("report", "99")):
        with pytest.raises(NoSuchReport):
            reports.made(house.site, wrong)
    assert base.now() >= reports.made(house.site, token).report.reported_at


def test_says_that_words_are_gone_whatever_the_page_offered(house: House) -> None:
    sent = house.post()
    reports.receive_report(house.site, sent.public_id, "other", None)
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, house.submission(sent.public_id), by="author")
        (report,) = session.scalars(select(Report)).all()
    reports.keep_words(house.site, report.id, moderator=house.ada, told="Thank you.")
    with house.site.database.reading_sessions() as session:
        assert session.get_one(Report, report.id).outcome == "taken_down"
