"""Webmentions in the records: taken note of, turned into letters at the gate, and noted down for essays' links."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ground.house import SLUG, VOICE, House
from sqlalchemy import select
from sqlalchemy import text as sql

from bridge.desk import reviews
from bridge.essay import essays
from bridge.letter import admission, erasure, mentions
from bridge.letter.admission import Arrival, Came
from bridge.letter.comments import Letter
from bridge.letter.mentions import MentionRefused, MentionState, Taken, Way
from bridge.limits import Bound
from bridge.records import Block, Comment, Essay, Mention, ReplyRequest, Voice
from bridge.signal import signals
from bridge.signal.signals import Name
from moderation import gate
from moderation.base import now
from moderation.queue import pending
from moderation.types import State, Tray

SOURCE = "https://ann.example/notes/1"
TARGET = f"http://localhost:8000/essays/{SLUG}"
ARRIVAL = Arrival(Came.API, "192.0.2.0/24")


def receive(house: House, source: str = SOURCE, target: str = TARGET) -> None:
    mentions.receive(house.site, source, target)


def rows(house: House) -> Sequence[Mention]:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Mention).order_by(Mention.id)).all()


def take(house: House, number: int = -1) -> Taken:
    with house.site.database.sessions.begin() as session:
        taken = mentions.take(session, rows(house)[number].id)
    assert taken is not None
    return taken


def found(house: House, *, author: str | None = "Ann", words: str | None = "I thought of it.") -> str:
    """Have the page say something, and the essay linked."""
    receive(house)
    return mentions.found(house.site, take(house), author=author, words=words)


def gone(house: House) -> str:
    receive(house)
    return mentions.gone(house.site, take(house), "The page is gone.")


def letters(house: House) -> Sequence[Comment]:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Comment).order_by(Comment.id)).all()


def words(house: House, number: int = -1) -> tuple[str, str]:
    with house.site.database.reading_sessions() as session:
        waiting = pending(session, letters(house)[number].submission_id)
    assert waiting is not None
    return waiting.author, waiting.body


def state(house: House, number: int = -1) -> State:
    return house.state(letters(house)[number].submission_id)


# In.


def test_takes_note_of_a_page_once(any_house: House) -> None:
    receive(any_house)
    receive(any_house, target=f"{TARGET}?page=2#letters")
    [row] = rows(any_house)
    assert (row.way, row.source, row.target, row.state) == ("in", SOURCE, TARGET, "waiting")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (TARGET, TARGET),
        ("http://localhost:9000/x", TARGET),
        ("javascript:alert(1)", TARGET),
        ("mailto:ann@mail.example", TARGET),
        ("//ann.example/", TARGET),
        ("https://ann:secret@ann.example/", TARGET),
        ("https://ann.example/\x00", TARGET),
        ("https://ann.example/\n", TARGET),
        ("https://①②⑦.⓪.⓪.①/", TARGET),
        ("https://\u212aann.example/", TARGET),
        ("https://ann.example:99999/", TARGET),
        ("http://LOCALHOST.:9000/", TARGET),
        ("https://ann.example/" + "x" * 1000, TARGET),
        ("", TARGET),
        (SOURCE, ""),
        (SOURCE, "https://elsewhere.example/essays/on-rest"),
        (SOURCE, "http://localhost:8000.evil.example/essays/on-rest"),
        (SOURCE, "http://localhost:8000/essays/no-such-essay"),
        (SOURCE, "http://localhost:8000/desk/"),
        (SOURCE, "http://localhost:8000"),
    ],
)
def test_takes_nothing_else(house: House, source: str, target: str) -> None:
    with pytest.raises(MentionRefused):
        receive(house, source, target)
    assert rows(house) == []


def test_takes_none_for_an_essay_that_is_not_posted(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        essays.submit_essay(session, session.scalars(select(Voice)).one(), "# Pending\n\nWords.")
    with pytest.raises(MentionRefused):
        receive(house, target="http://localhost:8000/essays/pending")


def test_takes_none_from_a_blocked_domain(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        block = Block(what="domain", value="ann.example", look="ann.example", moderator_id=house.ada, since=now())
        session.add(block)
    with pytest.raises(MentionRefused):
        receive(house, source="https://www.ann.example/x")


def test_takes_note_of_one_page_once_though_told_by_many_at_once(any_house: House) -> None:
    together = threading.Barrier(6)

    def tell() -> None:
        together.wait(20)
        receive(any_house)

    threads = [threading.Thread(target=tell) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rows(any_house)) == 1


def test_is_seen_to_by_one_worker_at_a_time(any_house: House) -> None:
    receive(any_house)
    with any_house.site.database.reading_sessions() as session:
        assert mentions.due(session) == [rows(any_house)[0].id]
    first = take(any_house)
    with any_house.site.database.sessions.begin() as session:
        assert mentions.take(session, first.id) is None
        assert mentions.due(session) == []
        session.execute(sql("UPDATE mentions SET not_before = 1"))
    second = take(any_house)
    assert second.attempt == 2
    assert mentions.told(any_house.site, first) == "another worker sees to it"
    assert mentions.told(any_house.site, second) == "done"


def test_looks_at_few_pages_at_once(house: House) -> None:
    for number in range(5):
        receive(house, f"{SOURCE}/{number}")
    with house.site.database.reading_sessions() as session:
        assert mentions.due(session) == [row.id for row in rows(house)][: mentions.IN_AT_ONCE]


def test_puts_what_the_page_says_before_the_gate(any_house: House) -> None:
    assert found(any_house) == "done"
    assert words(any_house) == ("Ann", f"> I thought of it.\n\n<{SOURCE}>")
    [letter], [row] = letters(any_house), rows(any_house)
    assert (letter.wants_reply, row.comment_id, row.state) == (False, letter.id, "done")
    with any_house.site.database.reading_sessions() as session:
        noticed = signals.signals_of(session, [letter.submission_id])[letter.submission_id]
        waiting = pending(session, letter.submission_id)
    assert [each.strong for each in noticed if each.name is Name.WEBMENTION] == [False]
    assert waiting is not None
    assert waiting.tray is Tray.MAIN


def test_asks_the_voice_nothing_though_it_is_approved(house: House) -> None:
    found(house)
    house.approve(letters(house)[0].public_id)
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(ReplyRequest)).all() == []


@pytest.mark.parametrize("author", [None, "", VOICE, "Ada", "x" * 100, "two\nlines", "\u200b"])
def test_names_the_host_where_the_page_names_nobody_that_may_stand_there(house: House, author: str | None) -> None:
    found(house, author=author, words=None)
    assert words(house) == ("ann.example", f"<{SOURCE}>")


def test_adds_one_letter_for_a_page_however_often_it_is_told(house: House) -> None:
    for _ in range(3):
        found(house)
    assert len(letters(house)) == 1


def test_changes_a_letter_that_waits_when_its_page_changes(house: House) -> None:
    found(house)
    found(house, words="I thought again.")
    assert words(house)[1].startswith("> I thought again.")
    [letter] = letters(house)
    with house.site.database.reading_sessions() as session:
        noticed = signals.signals_of(session, [letter.submission_id])[letter.submission_id]
    assert Name.WEBMENTION in {each.name for each in noticed}


def test_leaves_a_letter_that_was_decided_on(house: House) -> None:
    found(house)
    house.approve(letters(house)[0].public_id)
    found(house, words="Something else.")
    assert (len(letters(house)), state(house)) == (1, State.APPROVED)


@pytest.mark.parametrize("approved", [True, False])
def test_takes_a_letter_back_when_its_page_is_gone_and_brings_it_again_with_it(house: House, approved: bool) -> None:
    found(house)
    if approved:
        house.approve(letters(house)[0].public_id)
    assert gone(house) == "refused"
    assert state(house) is State.WITHDRAWN
    found(house)
    assert [state(house, number) for number in (0, 1)] == [State.WITHDRAWN, State.PENDING]


def test_brings_nothing_back_that_was_taken_down_or_erased(house: House) -> None:
    found(house)
    public_id = letters(house)[0].public_id
    house.approve(public_id)
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, house.submission(public_id), by="operator")
    found(house)
    erasure.erase_comment(house.site, public_id)
    with pytest.raises(MentionRefused):
        found(house)
    assert len(letters(house)) == 1


def test_keeps_no_address_of_a_page_whose_letter_is_erased(house: House) -> None:
    found(house)
    erasure.erase_comment(house.site, letters(house)[0].public_id)
    [row] = rows(house)
    assert "ann" not in row.source


@pytest.mark.parametrize("spelled", [SOURCE, f"{SOURCE}#again", SOURCE.replace("ann.example", "ANN.example:443")])
def test_forgets_for_good_a_page_whose_letter_was_erased(any_house: House, spelled: str) -> None:
    found(any_house)
    erasure.erase_comment(any_house.site, letters(any_house)[0].public_id)
    with pytest.raises(MentionRefused):
        receive(any_house, source=spelled)
    [row] = rows(any_house)
    assert "ann" not in row.source


@pytest.mark.parametrize("ends", ["found", "gone", "refused", "tried again"])
def test_forgets_a_page_whose_letter_is_erased_while_it_is_looked_at(any_house: House, ends: str) -> None:
    found(any_house)
    erasure.erase_comment(any_house.site, letters(any_house)[0].public_id)
    with any_house.site.database.sessions.begin() as session:
        # As another request leaves it that was let in just before.
        row = session.scalars(select(Mention)).one()
        row.source, row.target, row.state, row.comment_id = SOURCE, TARGET, "waiting", None
    taken = take(any_house)
    match ends:
        case "found":
            said = mentions.found(any_house.site, taken, author="Ann", words="I thought of it.")
        case "gone":
            said = mentions.gone(any_house.site, taken, f"{SOURCE} is gone.")
        case _:
            said = mentions.refuse(any_house.site, taken, f"{SOURCE} answered 503.", passing=ends == "tried again")
    [row] = rows(any_house)
    assert said == "refused"
    assert (row.state, row.target, row.why, row.not_before) == ("refused", "", None, None)
    assert "ann" not in row.source
    assert len(letters(any_house)) == 1


@pytest.mark.parametrize("tail", ["#1", "#", "#1#2"])
@pytest.mark.parametrize("site", ["https://ann.example", "https://ANN.Example", "https://ann.example:443"])
def test_adds_one_letter_for_a_page_however_it_is_spelled(any_house: House, site: str, tail: str) -> None:
    found(any_house)
    receive(any_house, source=f"{site}/notes/1{tail}")
    mentions.found(any_house.site, take(any_house), author="Ann", words="I thought of it.")
    assert (len(rows(any_house)), len(letters(any_house))) == (1, 1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://ann.example", "https://ann.example/"),
        ("https://ann.example#x", "https://ann.example/"),
        ("https://ann.example?Q=1#x", "https://ann.example/?Q=1"),
        ("http://Ann.example:80/A?b=%2F", "http://ann.example/A?b=%2F"),
        ("http://ann.example:443/", "http://ann.example:443/"),
        ("https://ann.example:8443/", "https://ann.example:8443/"),
        ("https://ann.example/?", "https://ann.example/?"),
        ("https://ann.example.:0443/", "https://ann.example/"),
        ("HTTPS://ann.example/", "https://ann.example/"),
    ],
)
def test_tells_pages_apart_by_what_servers_are_asked(house: House, given: str, kept: str) -> None:
    receive(house, source=given)
    assert [row.source for row in rows(house)] == [kept]


def test_brings_so_many_letters_an_hour_under_one_essay(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "UNDER_AN_ESSAY", Bound("letters under an essay", 2, 3600))
    house.site = replace(house.site, settings=house.site.settings.model_copy(update={"rate_limits": "on"}))
    said = []
    for number in range(3):
        receive(house, source=f"{SOURCE}?{number}")
        said.append(mentions.found(house.site, take(house), author="Ann", words="I thought of it."))
    assert said == ["done", "done", "it is tried again"]
    assert len(letters(house)) == 2
    # A page that has its letter already counts for nothing.
    receive(house, source=f"{SOURCE}?0")
    assert mentions.found(house.site, take(house, 0), author="Ann", words="I thought again.") == "done"
    # Nor can pages elsewhere use up what readers may send.
    admission.admit(house.site, SLUG, Letter(author="Bo", body="My own words."), ARRIVAL)


def test_says_why_nothing_came_of_it(house: House) -> None:
    assert found(house, words=" ".join(f"https://x{n}.example/" for n in range(30))) == "refused"
    [row] = rows(house)
    assert "links" in (row.why or "")
    assert letters(house) == []


def test_puts_nothing_under_an_essay_that_takes_no_letters(house: House) -> None:
    essays.close(house.site, SLUG, "It is over.")
    assert found(house) == "refused"
    assert letters(house) == []


def test_tries_a_passing_trouble_so_many_times(house: House) -> None:
    receive(house)
    for attempt in range(1, mentions.MOST_ATTEMPTS + 1):
        said = mentions.refuse(house.site, take(house), "It answered 503.", passing=True)
        assert said == ("it is tried again" if attempt < mentions.MOST_ATTEMPTS else "refused")
        with house.site.database.sessions.begin() as session:
            assert mentions.due(session) == []
            session.execute(sql("UPDATE mentions SET not_before = 1 WHERE state = 'waiting'"))
    [row] = rows(house)
    assert (row.state, row.attempts, row.why) == ("refused", mentions.MOST_ATTEMPTS, "It answered 503.")


# Out.

LINKS = """# On links

[One](https://one.example/a), [again](https://one.example/a), <https://two.example/>, https://three.example/b
[mail](mailto:a@b.example) [us](https://letters.house.net/about) `https://code.example/`
"""


def release(house: House, body: str = LINKS, **site: Any) -> list[tuple[str, str]]:
    """Approve an essay where readers' address is a public one; return whom it tells of what."""
    house.site = replace(house.site, settings=house.site.settings.model_copy(update=site))
    with house.site.database.sessions.begin() as session:
        essay = essays.submit_essay(session, session.scalars(select(Voice)).one(), body)
        waiting = pending(session, essay.submission_id)
    assert waiting is not None
    reviews.approve(house.site, waiting.id, moderator=house.ada, seen=waiting.digest)
    return [(row.source, row.target) for row in rows(house) if row.way == "out"]


PUBLIC = "https://letters.house.net"


def test_notes_down_whom_an_essay_links_to(any_house: House) -> None:
    told = release(any_house, site_url=PUBLIC)
    assert [source for source, _ in told] == [f"{PUBLIC}/essays/on-links"] * len(told)
    assert [target for _, target in told][:3] == [
        "https://one.example/a",
        "https://two.example/",
        "https://three.example/b",
    ]
    assert PUBLIC + "/about" not in [target for _, target in told]
    with any_house.site.database.sessions.begin() as session:
        essay = session.scalars(select(Essay).where(Essay.slug == "on-links")).one()
        assert mentions.essay_released(session, any_house.site.settings, essay.submission_id) == []


@pytest.mark.parametrize(
    "address",
    [None, "http://localhost:8000", "https://letters", "http://127.0.0.1", "http://[::1]", "https://letters.internal"],
)
def test_tells_nobody_from_where_nobody_can_call_back(house: House, address: str | None) -> None:
    assert release(house, site_url=address) == []


def test_tells_so_many_pages_and_no_more(house: House) -> None:
    body = "# Many\n\n" + " ".join(f"<https://n{number}.example/>" for number in range(200))
    assert len(release(house, body, site_url=PUBLIC)) == mentions.MOST_TOLD


def test_tells_nobody_of_a_letter(house: House) -> None:
    house.site = replace(house.site, settings=house.site.settings.model_copy(update={"site_url": PUBLIC}))
    house.post("See https://one.example/a")
    assert rows(house) == []


def test_counts_and_lists_them(house: House) -> None:
    found(house)
    release(house, site_url=PUBLIC)
    with house.site.database.reading_sessions() as session:
        assert mentions.counts(session)[Way.IN, MentionState.DONE] == 1
        [listed] = mentions.listed(session, Way.IN)
        assert listed.source == SOURCE
        assert mentions.listed(session, Way.OUT)[-1].target == "https://one.example/a"
