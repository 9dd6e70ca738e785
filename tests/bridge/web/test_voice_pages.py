"""The desk's pages of voices, by plain forms: moderators read, admins pause, bound, change and ask again."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, Form, House, desk_of, form, text, tree
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from bridge.desk import keeping
from bridge.people import accounts
from bridge.records import Answering, Calls, Comment, Generation, ReplyRequest, RequestState, Voice
from bridge.voice import voices
from moderation.base import Base

VOICES = "/desk/voices"
PAGE = "/desk/voices/test-voice"
MODERATORS = Base.metadata.tables["moderators"]
HOSTILE = "</textarea></pre><script>alert(1)</script><img src=x onerror=alert(1)>\n\"'{{ 'sum' ~ 'mer' * 3 }}"


@pytest.fixture
def admin(house: House, desk: FlaskClient) -> FlaskClient:
    """Ada's browser, after she became an admin."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
    return desk


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


def voice(house: House) -> Voice:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Voice)).one()


def failed(house: House, number: int = 1, state: RequestState = RequestState.FAILED) -> list[int]:
    sent = [house.post(f"Letter number {n}.").public_id for n in range(number)]
    with house.site.database.sessions.begin() as session:
        ids = list(session.scalars(select(Comment.id).where(Comment.public_id.in_(sent)).order_by(Comment.id)))
        session.execute(
            update(ReplyRequest)
            .where(ReplyRequest.comment_id.in_(ids))
            .values(state=state.value, why="The answer was cut off.", attempts=2)
        )
    return ids


def forms(page: TestResponse) -> list[str]:
    return [each.get("action", "") for each in tree(page).iter("form")]


def alerts(page: TestResponse) -> list[str]:
    return ["".join(each.itertext()) for each in tree(page).iter() if each.get("role") == "alert"]


# Reading


def test_shows_moderators_what_admins_decide_and_no_form_to_decide_it(house: House, desk: FlaskClient) -> None:
    failed(house)
    for path in (VOICES, PAGE, f"{PAGE}/charter"):
        page = desk.get(path)
        assert page.status_code == 200
        assert [each for each in forms(page) if each.startswith(VOICES)] == []
    assert "Test Voice" in text(desk.get(VOICES))
    assert VOICES in [each.get("href") for each in tree(desk.get("/desk/")).iter("a")]


@pytest.mark.parametrize("act", ["pause", "resumption", "budgets", "ways", "charter", "requests/1/again"])
def test_lets_admins_alone_decide(house: House, act: str, admin: FlaskClient, ben: FlaskClient, app: Flask) -> None:
    failed(house)
    before = house.contents()
    csrf = form(ben.get(PAGE), "/sign-out").fields["csrf_token"]
    fields = {"why": "No.", "charter": "Other.", "seen": "1", "replies_a_day": "1", "depth": "1"}
    refused = ben.post(f"{PAGE}/{act}", data=fields | {"csrf_token": csrf})
    assert refused.status_code == 403
    assert "Nothing was changed" in refused.text
    assert admin.post(f"{PAGE}/{act}", data=fields).status_code == 400
    assert app.test_client().post(f"{PAGE}/{act}", data=fields).status_code == 401
    assert house.contents() == before


def test_finds_no_page_for_a_voice_that_is_not_there(admin: FlaskClient) -> None:
    csrf = form(admin.get(PAGE), "/sign-out").fields["csrf_token"]
    assert admin.get(f"{VOICES}/nobody").status_code == 404
    assert admin.get(f"{VOICES}/nobody/charter").status_code == 404
    for act in ("pause", "resumption", "budgets", "ways", "charter", "requests/1/again"):
        sent = {"csrf_token": csrf, "charter": "Words."}
        assert admin.post(f"{VOICES}/nobody/{act}", data=sent).status_code == 404, act


def test_says_so_where_no_voice_writes(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "everyone", lambda _session: [])
    assert "No voice writes here yet" in text(desk.get(VOICES))


# Pausing


def test_pauses_in_one_click_and_lets_it_answer_again_in_another(house: House, admin: FlaskClient) -> None:
    went = form(admin.get(PAGE), "/pause").submit(admin)
    assert went.status_code == 303
    page = admin.get(went.location)
    assert "Paused" in text(page)
    assert "Ada paused it." in text(page)
    assert voice(house).paused_why == "Ada paused it."
    assert not [each for each in forms(page) if each.endswith("/pause")]
    went = form(page, "/resumption").submit(admin)
    assert "It answers again." in text(admin.get(went.location))
    assert voice(house).paused_at is None


def test_shows_why_it_is_paused_to_everybody_at_the_desk(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    form(admin.get(PAGE), "/pause").submit(admin, why="It repeats itself.")
    for path in (VOICES, PAGE):
        assert "Ada: It repeats itself." in text(ben.get(path))


def test_keeps_what_was_written_about_a_pause_when_it_is_too_long(house: House, admin: FlaskClient) -> None:
    page = form(admin.get(PAGE), "/pause").submit(admin, why="x" * 501)
    assert page.status_code == 422
    assert "at most 500 characters" in alerts(page)[0]
    assert form(page, "/pause").fields["why"] == "x" * 501
    assert voice(house).paused_at is None


def test_offers_both_ways_during_a_pause_that_ends_by_itself(house: House, admin: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        voices.pause(session, session.scalars(select(Voice)).one(), "The API is failing.", minutes=15)
    page = admin.get(PAGE)
    assert {f"{PAGE}/pause", f"{PAGE}/resumption"} <= set(forms(page))
    assert ", until " in text(page)
    with house.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(paused_until=1))
    assert "its pause has run out" in text(admin.get(PAGE))


# Budgets


def budgets_form(admin: FlaskClient) -> Form:
    return form(admin.get(PAGE), "/budgets")


def test_bounds_what_it_may_cost_and_shows_it(house: House, admin: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        voices.set_prices(session, session.scalars(select(Voice)).one(), price_in=3, price_out=15)
    house.post()
    house.answer()
    went = budgets_form(admin).submit(admin, cost_a_day="2.5", cost_a_month="", replies_a_day="20", replies_a_month="0")
    assert went.status_code == 303
    now = voice(house)
    assert (now.cost_a_day, now.cost_a_month, now.replies_a_day, now.replies_a_month) == (2_500_000, None, 20, 0)
    page = admin.get(went.location)
    # 7 tokens in at 3 and 2 out at 15.
    assert "$0.0001 of $2.50" in text(page)
    assert "$0.0001 no bound" in text(page)
    assert "1 of 20" in text(page)
    assert budgets_form(admin).fields["cost_a_day"] == "2.50"
    budgets_form(admin).submit(admin, cost_a_day=" ", replies_a_day="", replies_a_month="")
    now = voice(house)
    assert (now.cost_a_day, now.cost_a_month, now.replies_a_day, now.replies_a_month) == (None, None, None, None)


def test_shows_what_open_calls_hold(house: House, desk: FlaskClient) -> None:
    house.post()
    house.answer()
    with house.site.database.sessions.begin() as session:
        voices.set_prices(session, session.scalars(select(Voice)).one(), price_in=3, price_out=15)
        session.execute(update(ReplyRequest).values(state="asking"))
        session.execute(update(Generation).values(ended_at=None, cost=None, reserved=120_000))
    assert "$0.12 is held for calls that are open" in text(desk.get(PAGE))


def test_says_that_nothing_is_asked_within_dollars_without_prices(desk: FlaskClient) -> None:
    for path in (PAGE, VOICES):
        assert (
            "No price of this model is known, so nothing is counted, and with a bound in dollars nothing is asked."
            in text(desk.get(path))
        )


def test_keeps_what_was_written_when_a_budget_cannot_be_read(house: House, admin: FlaskClient) -> None:
    before = house.contents()
    page = budgets_form(admin).submit(admin, cost_a_day="2,50", replies_a_month="12")
    assert page.status_code == 422
    assert "dollars such as 2.50" in alerts(page)[0]
    kept = form(page, "/budgets").fields
    assert (kept["cost_a_day"], kept["replies_a_month"]) == ("2,50", "12")
    (wrong,) = [each.get("name") for each in tree(page).iter("input") if each.get("aria-invalid") == "true"]
    assert wrong == "cost_a_day"
    assert house.contents() == before


def test_bounds_what_one_reader_and_one_essay_may_have(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    budgets_form(admin).submit(admin, replies_a_reader="1", replies_a_thread="20")
    assert (voice(house).replies_a_reader, voice(house).replies_a_thread) == (1, 20)
    assert budgets_form(admin).fields["replies_a_thread"] == "20"
    assert "A reader is one as far as one can be known: by the secret of the browser or the API." in text(
        admin.get(PAGE)
    )
    for path in (VOICES, PAGE):
        assert "In a day at most 1 answer to one reader, and 20 answers under one essay." in text(ben.get(path))
    page = budgets_form(admin).submit(admin, replies_a_reader="few", replies_a_thread="9")
    assert page.status_code == 422
    assert form(page, "/budgets").fields["replies_a_reader"] == "few"
    assert voice(house).replies_a_thread == 20


def test_shows_which_row_of_the_table_it_is_reckoned_by(house: House, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(model="claude-3-opus-20240229"))
    shown = text(desk.get(PAGE))
    assert "$15 in and $75 out for a million tokens of claude-3-opus-20240229, since 2024-02-29" in shown
    assert "Pricing, docs.anthropic.com, 2025" in shown
    with house.site.database.sessions.begin() as session:
        voices.set_prices(session, session.scalars(select(Voice)).one(), price_in=3, price_out=15)
    assert "$3 in and $15 out for a million tokens are this voice's own prices." in text(desk.get(PAGE))


def test_says_which_calls_had_no_known_price_and_which_were_rehearsed(house: House, desk: FlaskClient) -> None:
    house.post()
    house.post("Do you dream at noon?")
    house.answer()
    assert "2 calls this month had no known price: nothing is counted for them" in text(desk.get(PAGE))
    with house.site.database.sessions.begin() as session:
        voices.set_prices(session, session.scalars(select(Voice)).one(), price_in=3, price_out=15)
        session.execute(update(Generation).where(Generation.id == 1).values(cost=250_000, rehearsed=True))
    shown = text(desk.get(PAGE))
    assert "1 call this month had no known price: nothing is counted for it" in shown
    assert "$0.25 of this month was reckoned for the rehearsal, and nobody is owed it." in shown


# How it answers


def ways_form(admin: FlaskClient) -> Form:
    return form(admin.get(PAGE), "/ways")


def test_shows_how_it_answers_in_plain_words(house: House, desk: FlaskClient) -> None:
    shown = text(desk.get(PAGE))
    for expected in (
        "Every approved letter is put to it.",
        "At once, when a letter is approved.",
        "to a depth of 10 letters",
        "Up to 6,000 tokens of other letters, answers and essays, besides the conversation that a letter goes on.",
        "1,500 tokens at most.",
        "Anthropic's Messages API, or as the workers are set.",
    ):
        assert expected in shown
    with house.site.database.sessions.begin() as session:
        voices.set_ways(
            session,
            session.scalars(select(Voice)).one(),
            voices.Ways(
                answering=Answering.CHOSEN,
                calls=Calls.RULE,
                depth=1,
                memory_tokens=0,
                calls_at_once=1,
                input_tokens_a_minute=20_000,
                base_url="http://127.0.0.1:8080",
                key_name="ANTHROPIC_API_KEY_SECOND",
                extra_body={"temperature": 1},
            ),
        )
    shown = text(desk.get(PAGE))
    for expected in (
        "It is shown what waits under an essay, and picks.",
        "At once where so many letters wait",
        "and none about its answers",
        "Nothing but the conversation that a letter goes on.",
        "1 call at most, over all workers.",
        "At most 20,000 tokens in; otherwise what the API allows.",
        "A compatible server, http://127.0.0.1:8080, with the workers' key ANTHROPIC_API_KEY_SECOND.",
        '{"temperature": 1}',
    ):
        assert expected in shown


def test_sets_how_it_answers_from_the_next_sitting_on(house: House, admin: FlaskClient) -> None:
    went = ways_form(admin).submit(
        admin,
        answering="chosen",
        calls="batch",
        depth="3",
        memory_tokens="0",
        calls_at_once="4",
        requests_a_minute="50",
    )
    assert went.status_code == 303
    assert "holds from its next sitting on" in text(admin.get(went.location))
    now = voices.ways_of(voice(house))
    assert now == voices.Ways(
        answering=Answering.CHOSEN, calls=Calls.BATCH, depth=3, memory_tokens=0, calls_at_once=4, requests_a_minute=50
    )
    page = admin.get(PAGE)
    chosen = [each.get("value") for each in tree(page).iter("option") if "selected" in each.attrib]
    assert chosen == ["chosen", "batch"]
    kept = form(page, "/ways")
    assert kept.fields["depth"] == "3"
    kept.submit(admin, calls_at_once="", requests_a_minute=" ")
    assert (voice(house).calls_at_once, voice(house).requests_a_minute) == (None, None)


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("depth", ""),
        ("depth", "101"),
        ("memory_tokens", "100001"),
        ("calls_at_once", "0"),
        ("requests_a_minute", "many"),
        ("answering", "some"),
        ("calls", ""),
    ],
)
def test_keeps_what_was_typed_when_a_way_cannot_be_set(
    house: House, admin: FlaskClient, field: str, typed: str
) -> None:
    before = house.contents()
    page = ways_form(admin).submit(admin, **{"memory_tokens": "1234", field: typed})
    assert page.status_code == 422
    assert len(alerts(page)) == 1
    assert "Nothing was changed." in alerts(page)[0]
    (wrong,) = [each.get("name") for each in tree(page).iter() if each.get("aria-invalid") == "true"]
    assert wrong == field
    kept = form(page, "/ways").fields
    assert kept["memory_tokens"] == (typed if field == "memory_tokens" else "1234")
    if field not in {"answering", "calls"}:
        assert kept[field] == typed
    assert house.contents() == before


def test_lets_no_page_say_where_it_is_asked_or_with_which_key(house: House, admin: FlaskClient) -> None:
    page = ways_form(admin)
    went = admin.post(
        page.action,
        data=page.fields
        | {
            "base_url": "https://elsewhere.example",
            "key_name": "ANTHROPIC_API_KEY_MAIN",
            "endpoint": "vertex",
            "extra_body": "{}",
            "max_tokens": "1",
            "disclaimer": "A person wrote this.",
        },
    )
    assert went.status_code == 303
    assert voices.ways_of(voice(house)) == voices.Ways()


def test_leaves_what_it_did_not_choose_as_it_is(house: House, admin: FlaskClient) -> None:
    (comment_id,) = failed(house, 1, RequestState.NOT_CHOSEN)
    ways_form(admin).submit(admin, answering="each")
    with house.site.database.reading_sessions() as session:
        assert session.get_one(ReplyRequest, comment_id).state == "not_chosen"


# Requests


def test_lists_what_failed_with_why_and_the_way_to_its_history(house: House, desk: FlaskClient) -> None:
    failed(house)
    page = desk.get(PAGE)
    for shown in ("The answer was cut off.", "asked 2 times", "Letter number 0.", "Failed 1", "Letter by Reader"):
        assert shown in text(page)
    with house.site.database.reading_sessions() as session:
        submission = session.scalars(select(Comment.submission_id)).one()
    assert f"/desk/submissions/{submission}/history" in [each.get("href") for each in tree(page).iter("a")]


def test_goes_on_after_fifty(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "AT_ONCE", 2)
    failed(house, 3, RequestState.WITHHELD)
    first = desk.get(f"{PAGE}?list=withheld")
    (later,) = [each.get("href") for each in tree(first).iter("a") if "after=" in (each.get("href") or "")]
    rest = desk.get(later.partition("#")[0])
    assert ("Letter number 1." in text(first), "Letter number 2." in text(first)) == (True, False)
    assert ("Letter number 1." in text(rest), "Letter number 2." in text(rest)) == (False, True)


@pytest.mark.parametrize("query", ["list=answered", "list=%00", "list=nothing", "after=-1", "after=9999999999999999"])
def test_shows_the_page_whatever_the_query_says(desk: FlaskClient, query: str) -> None:
    assert desk.get(f"{PAGE}?{query}").status_code in {200, 404}


def test_asks_again_once(house: House, admin: FlaskClient) -> None:
    (comment_id,) = failed(house)
    again = form(admin.get(PAGE), "/again")
    went = again.submit(admin)
    assert went.status_code == 303
    assert "It is asked again." in text(admin.get(went.location))
    twice = again.submit(admin)
    assert twice.status_code == 409
    assert "Nothing was changed" in alerts(twice)[0]
    with house.site.database.reading_sessions() as session:
        request = session.get_one(ReplyRequest, comment_id)
    assert (request.state, request.why, request.attempts) == ("waiting", None, 2)
    assert len(house.answer()) == 1


def test_offers_to_ask_again_for_nothing_that_was_declined(house: House, admin: FlaskClient) -> None:
    failed(house, 1, RequestState.DECLINED)
    page = admin.get(f"{PAGE}?list=declined")
    assert not [each for each in forms(page) if each.endswith("/again")]
    assert "Silence is an answer" in text(page)


# The charter


def charter_form(admin: FlaskClient) -> Form:
    return form(admin.get(f"{PAGE}/charter"), "/charter")


def test_changes_the_charter_and_keeps_the_one_before_readable(house: House, admin: FlaskClient) -> None:
    assert charter_form(admin).fields["charter"].strip() == "You are a test."
    went = charter_form(admin).submit(admin, charter="You are a test.\nBe brief.")
    assert went.status_code == 303
    page = admin.get(went.location)
    for shown in ("The charter is changed.", "Version 2, in use", "Version 1", "By Ada", "By the operator"):
        assert shown in text(page)
    assert ["".join(each.itertext()) for each in tree(page).iter("ins")] == ["+ Be brief."]
    assert voice(house).charter == "You are a test.\nBe brief."
    charter_form(admin).submit(admin, charter="Rest.")
    page = admin.get(f"{PAGE}/charter")
    assert ["".join(each.itertext()) for each in tree(page).iter("del")] == ["- You are a test.", "- Be brief."]


def test_refuses_a_change_made_to_an_older_version_and_keeps_the_words(house: House, admin: FlaskClient) -> None:
    mine, theirs = charter_form(admin), charter_form(admin)
    theirs.submit(admin, charter="Theirs.")
    page = mine.submit(admin, charter="Mine.")
    assert page.status_code == 409
    assert "Somebody changed this charter while you wrote" in alerts(page)[0]
    assert voice(house).charter == "Theirs."
    again = form(page, "/charter")
    assert again.fields["charter"].strip() == "Mine."
    assert "Theirs." in text(page)
    # Whoever has read what changed may save over it.
    assert again.submit(admin).status_code == 303
    assert voice(house).charter == "Mine."


@pytest.mark.parametrize(("written", "said"), [(" \n", "needs a charter"), ("x" * 15_001, "at most 15,000 characters")])
def test_refuses_a_charter_that_is_none_or_too_long(house: House, admin: FlaskClient, written: str, said: str) -> None:
    before = house.contents()
    page = charter_form(admin).submit(admin, charter=written)
    assert page.status_code == 422
    assert said in alerts(page)[0]
    assert house.contents() == before


def test_takes_the_longest_charter_of_any_script_in_a_form_of_its_kind(house: House, admin: FlaskClient) -> None:
    page = charter_form(admin)
    longest = "\U00020000" * 15_000
    csrf = page.fields["csrf_token"]
    sent = admin.post(
        page.action,
        data={"csrf_token": csrf, "seen": page.fields["seen"], "charter": longest},
        content_type="multipart/form-data",
    )
    assert sent.status_code == 303
    assert voice(house).charter == longest


def test_shows_hostile_words_as_words(house: House, admin: FlaskClient) -> None:
    charter_form(admin).submit(admin, charter=HOSTILE)
    form(admin.get(PAGE), "/pause").submit(admin, why=HOSTILE)
    house.post(HOSTILE.partition("\n")[0], author="<b>Reader</b>")
    with house.site.database.sessions.begin() as session:
        session.execute(update(ReplyRequest).values(state="declined", why=HOSTILE))
    assert charter_form(admin).fields["charter"].strip() == HOSTILE
    for path in (VOICES, f"{PAGE}?list=declined", f"{PAGE}/charter"):
        page = admin.get(path)
        assert [each for each in tree(page).iter() if each.get("onerror")] == [], path
        assert [each for each in tree(page).iter("script") if not each.get("src")] == [], path
        assert "{{ 'sum' ~ 'mer' * 3 }}" in text(page), path
        assert "summermermer" not in text(page), path


def test_shows_twenty_versions_at_once(house: House, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "VERSIONS_AT_ONCE", 2)
    with house.site.database.sessions.begin() as session:
        who = accounts.moderator_of(session, BEN)
        for n in range(3):
            kept = session.scalars(select(Voice)).one()
            newest = voices.charters(session, kept)[0].id
            voices.change_charter(session, kept, f"Charter, change {n}.", moderator=who, seen=newest)
    page = admin.get(f"{PAGE}/charter")
    assert ("Version 3" in text(page), "Version 2" in text(page)) == (True, False)
    (earlier,) = [each.get("href") for each in tree(page).iter("a") if "below=" in (each.get("href") or "")]
    rest = admin.get(earlier.partition("#")[0])
    assert ("Version 3" in text(rest), "Version 2" in text(rest), "Version 1" in text(rest)) == (False, True, True)
    # The form is that of the version in use, whichever page is open.
    assert form(rest, "/charter").fields["charter"].strip() == "Charter, change 2."
