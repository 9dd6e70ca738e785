"""Each way in which the API fails, from a letter to its end: the real SDK against the rehearsal (docs/faults.md).

A letter asks for its fault by its last line, as often as its first sitting calls; then the fault is over, and whatever
has a way on is answered by it: what waits by the time, a pause and a failure by a person.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ground.house import bearer, desk_of, text, tree
from ground.workshop import MODEL, NAME, Workshop
from sqlalchemy import func, select

from bridge.answer import awaiting, replies
from bridge.answer.awaiting import Stage
from bridge.app import create_app
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.people import accounts
from bridge.records import Comment, Essay, Generation, Outgoing, ReplyRequest, Voice
from bridge.voice import budgets, voices
from bridge.voice.model import Outcome
from moderation.queue import awaiting_review
from moderation.types import Kind
from workers import endpoints, sitting
from workers.claude import Claude
from workers.rehearsal import Rehearsal, RehearsalSettings, running
from workers.rehearsal.models import CATALOGUE
from workers.settings import WorkerSettings

PRICE_IN, PRICE_OUT = 15.0, 75.0
ADMIN, PASSWORD = "cleo@desk.example", "three-wrong-words"
NOTED = "Rehearsed: a note, and the answer is to follow."
"""What the rehearsal notes alone, before it answers in its next call."""
NOWHERE = "nobody listens"
OTHER_MODEL = next(each for each in CATALOGUE if each != MODEL)
UNREACHABLE = "The API cannot be reached, or cut its answer off."
UNREADABLE = "The answer was unreadable."
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
READS = {
    "answered": "A person is going to read the answer",
    "declined": "read it and chose not to answer",
    "withheld": "No answer came",
    "failed": "did not work this time",
    Stage.WAITING: "It answers in its own time. It may choose not to answer.",
    Stage.NOT_ASKED_NOW: "It is not being asked just now. Your letter keeps its place.",
}
"""What stands on a letter's own page, by what became of its request, or where it still waits by how."""


@dataclass(frozen=True)
class Fault:
    """One fault, asked for as often as there are *calls*, and what one sitting leaves of its letter.

    *others* is what becomes of the letters behind it where it goes first; *paused*: a person must let the voice go on.
    """

    asked: str
    calls: tuple[str, ...]
    state: str
    why: str | None
    stage: Stage
    others: str = "answered"
    paused: bool = False
    hasty: bool = False
    """Whether the worker waits for a moment only: for faults that are seen by waiting."""

    @property
    def reads(self) -> str:
        """What the letter's author reads."""
        return READS[self.stage if self.state == "waiting" else self.state]

    @property
    def text(self) -> str:
        """The letter's last line."""
        times = f";times={len(self.calls) - self.calls.count('replied')};key={secrets.token_hex(8)}"
        return f"\n[[{self.asked}{times}]]" if self.asked != NOWHERE else ""


def passing(asked: str, why: str, *, tries: int = 3, calls: str = "PassingTrouble", **more: bool) -> Fault:
    return Fault(asked, (calls,) * tries, "waiting", why, Stage.WAITING, others="waiting", **more)


def blocked(asked: str, why: str) -> Fault:
    return Fault(asked, ("VoiceBlocked",), "waiting", why, Stage.NOT_ASKED_NOW, others="waiting", paused=True)


def final(asked: str, state: str, why: str | None, *calls: str) -> Fault:
    return Fault(asked, calls, state, why, Stage.FAILED if state == "failed" else Stage.OVER)


FAULTS = [
    replace(
        final(
            "status=400",
            "failed",
            "The API refused our request: Rehearsed: the answer with status 400 that was asked for.",
            "RequestRefused",
        ),
        others="waiting",
        paused=True,
    ),
    blocked("status=400;code=own_spend_limit", "Our spending limit is reached."),
    blocked("status=400;code=organization_on_hold", "Anthropic has suspended this organisation."),
    blocked("status=401", "The key is not accepted."),
    blocked("status=402", "Billing needs attention."),
    blocked("status=403", f"This key may not use {MODEL}."),
    blocked(
        "status=404",
        f"{MODEL} is unknown here, or retired and not open to this key. A retired model is served by request only: ask "
        "Anthropic, through the External Researcher Access Program. What waits keeps waiting.",
    ),
    final("status=413", "failed", "The thread is too long to send.", "RequestRefused", "RequestRefused"),
    passing("status=429;retry-after=60", "Waiting for the rate limit.", tries=1, calls="ModelBusy"),
    Fault("status=429;retry-after=1", ("ModelBusy", "replied"), "answered", None, Stage.OVER),
    blocked("status=429;code=enforced_spend_limit_reached", "The organisation's monthly limit is reached."),
    blocked("status=429;code=contract_spend_limit_reached", "The organisation's monthly limit is reached."),
    passing("status=408", "The API is failing."),
    passing("status=500", "The API is failing."),
    passing("status=503", "The API is failing."),
    passing("status=529", "The API is overloaded."),
    passing(NOWHERE, UNREACHABLE),
    passing("drop", UNREACHABLE),
    passing("cut", UNREACHABLE),
    passing("hang", "No answer within 1 s.", tries=2, hasty=True),
    passing("slow=60", "No answer within 1 s.", tries=2, hasty=True),
    passing("drip=6", "No answer within 2 s.", tries=2, hasty=True),
    passing("html", UNREADABLE, calls="Unreadable"),
    passing("bad-json", UNREADABLE, calls="Unreadable"),
    passing("holes", UNREADABLE, calls="Unreadable"),
    final("refusal", "withheld", "Withheld by the API's filter, not by the voice.", "withheld"),
    Fault("max-tokens;slow=0", ("cut", "replied"), "answered", None, Stage.OVER),
    final("max-tokens", "failed", "The answer was cut off (max_tokens).", "cut", "cut"),
    final("empty", "declined", "The voice said nothing.", "declined"),
    final("silence", "declined", "The voice said nothing.", "declined"),
    final("decline", "declined", "Rehearsed: I would rather not answer this one.", "declined"),
    Fault("note-only", ("note_only", "replied"), "answered", None, Stage.OVER),
    final(
        "note-only;slow=0",
        "declined",
        "The voice left a note for moderators and said nothing.",
        *("note_only", "note_only"),
    ),
    final("stop=pause_turn", "failed", "Unexpected ending: pause_turn.", "unexpected"),
    final("stop=a_new_word", "failed", "Unexpected ending: a_new_word.", "unexpected"),
    final("block=strange", "failed", "The answer has a part of an unknown kind: strange.", "unexpected"),
    replace(
        final("other-model", "failed", f"Another model answered: {OTHER_MODEL}.", "unexpected"),
        others="waiting",
        paused=True,
    ),
]


class Scene:
    """A workshop whose voice has prices, and the rehearsal that plays it."""

    def __init__(self, workshop: Workshop, stage: Rehearsal) -> None:
        self.workshop = workshop
        self.stage = stage
        self.before = self.charged()

    def sit(self, fault: Fault | None = None) -> str:
        """Hold a sitting through the real SDK; a *fault* of the worker's surroundings is there meanwhile."""
        url = nobodys_address() if fault is not None and fault.asked == NOWHERE else self.stage.url
        silence, deadline = (1, 2) if fault is not None and fault.hasty else (30, 60)

        async def note(_seconds: float) -> None:
            """Wait for nothing."""

        async def hold() -> str:
            async with Claude(
                api_key="rehearsal", base_url=url, rehearsed=True, silence=silence, deadline=deadline
            ) as model:
                return await sitting.answer(self.workshop.site, self.workshop.essay_id, model, at_once=4, sleep=note)

        return asyncio.run(hold())

    def charged(self) -> float:
        """Return what the rehearsal has charged until now, in millionths of a dollar."""
        live = self.stage.usage().live
        prompt = (
            live.input_tokens
            + 1.25 * live.cache_creation_5m_input_tokens
            + 2 * live.cache_creation_1h_input_tokens
            + 0.1 * live.cache_read_input_tokens
        )
        return prompt * PRICE_IN + live.output_tokens * PRICE_OUT

    def letter(self, body: str) -> tuple[int, str]:
        """Send a letter and approve it; return its comment's id and the path of its own page."""
        workshop = self.workshop
        with workshop.site.database.reading_sessions() as session:
            slug = session.get_one(Essay, workshop.essay_id).slug
        receipt = comments.receive_comment(workshop.site, slug, Letter("Reader", body))
        with workshop.site.database.reading_sessions() as session:
            comment = session.scalars(select(Comment).where(Comment.public_id == receipt.public_id)).one()
        workshop.approve(comment.submission_id)
        return comment.id, f"/letters/{receipt.token}"

    def read(self, path: str) -> str:
        """Return a page as a reader gets it."""
        return create_app(self.workshop.site).test_client().get(path).text

    def awaited_stage(self, comment_id: int) -> Stage:
        """Return how the answer stands, as the letter's author is told."""
        with self.workshop.site.database.reading_sessions() as session:
            return awaiting.awaited(
                session,
                session.get_one(Comment, comment_id),
                session.get_one(Voice, self.workshop.voice_id),
                session.get_one(ReplyRequest, comment_id),
                posted=True,
            ).stage

    def assert_money_is_recorded(self) -> None:
        """Every call has its end and its money: what it cost, or where nobody can know, the most it could."""
        made = self.workshop.generations()
        assert all(each.ended_at is not None and each.reserved is not None for each in made)
        for each in made:
            # What was refused or never sent cost nothing; what broke off may have been billed: nobody knows how much.
            broke_off = each.outcome == "PassingTrouble" and each.status in {None, 408} and not never_sent(each)
            if each.outcome in set(Outcome):
                assert each.cost
            elif broke_off or each.outcome == "Unreadable":
                assert each.cost is None
            else:
                assert each.cost == 0
        recorded = sum(each.cost if each.cost is not None else each.reserved or 0 for each in made)
        with self.workshop.site.database.reading_sessions() as session:
            counted = budgets.counted(session, self.workshop.voice_id, at=budgets.clock(session)).month
        assert (counted.cost, counted.cost_held) == (recorded, 0)
        assert recorded >= self.charged() - self.before
        if all(each.cost is not None for each in made):
            assert recorded <= self.charged() - self.before + len(made)

    def assert_nothing_is_twice(self) -> None:
        """At most one reply for each letter, each before the gate and none through it."""
        answers = [each.comment_id for each in self.workshop.replies()]
        assert len(answers) == len(set(answers))
        with self.workshop.site.database.reading_sessions() as session:
            assert len(awaiting_review(session, kind=Kind.REPLY)) == len(answers)

    def notes_beside_the_reply(self, comment_id: int) -> tuple[list[str], str]:
        """Return the voice's notes beside its reply to a letter: as the desk shows them, and as the API tells them."""
        with self.workshop.site.database.sessions.begin() as session:
            token = accounts.issue_token(session, ADMIN, scope="read")
        app = create_app(self.workshop.site)
        [reply] = self.workshop.replies(comment_id)
        page = desk_of(app, ADMIN, PASSWORD).get(f"/desk/submissions/{reply.submission_id}")
        shown = [text(each.text or "") for each in tree(page).iter("p") if each.get("class") == "note plain"]
        queue = app.test_client().get("/api/v1/queue", headers=bearer(token)).get_json()["submissions"]
        [told] = [each["context"]["generation"]["note"] for each in queue if each["id"] == reply.submission_id]
        return shown, told

    def mails(self) -> int:
        """Return how many mails wait to be sent."""
        with self.workshop.site.database.reading_sessions() as session:
            return session.scalar(select(func.count()).select_from(Outgoing)) or 0

    def have_a_person_act(self, *failed: int) -> None:
        """Let the voice go on, and ask again for what *failed*."""
        with self.workshop.site.database.sessions.begin() as session:
            voices.resume(session, session.get_one(Voice, self.workshop.voice_id))
            for comment_id in failed:
                replies.ask_again(session, comment_id)


def never_sent(made: Generation) -> bool:
    return (made.error or "").endswith("ConnectError")


def nobodys_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


@pytest.fixture
def scene(open_workshop: Callable[..., Workshop], stage: Rehearsal) -> Scene:
    workshop = open_workshop(price_in=PRICE_IN, price_out=PRICE_OUT)
    with workshop.site.database.sessions.begin() as session:
        accounts.add_moderator(session, ADMIN, role="admin", password=PASSWORD, name="Cleo")
    workshop.asked("Earlier, and posted without an answer.", wants_reply=False)
    return Scene(workshop, stage)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.asked)
def test_ends_as_the_page_says(scene: Scene, fault: Fault) -> None:
    workshop = scene.workshop
    struck, page = scene.letter(f"Do you dream?{fault.text}")
    others = [workshop.asked(f"And number {n}?") for n in range(2)]
    scene.sit(fault)

    request = workshop.request(struck)
    assert (request.state, request.why, request.lease) == (fault.state, fault.why, None)
    assert tuple(made.outcome for made in workshop.generations(struck)) == fault.calls
    assert [workshop.request(each).state for each in others] == [fault.others] * 2
    # What came back is on record as it came, whoever can read it.
    for made in workshop.generations(struck):
        assert made.response is not None or (made.outcome == "PassingTrouble" and made.status is None)
    # Spared means that nothing was asked: no call, no money.
    assert len(workshop.generations()) == len(fault.calls) + (2 if fault.others == "answered" else 0)
    voice = workshop.voice()
    assert (voice.paused_why, voice.paused_until) == (fault.why if fault.paused else None, None)
    assert scene.awaited_stage(struck) is (Stage.FAILED if fault.state == "failed" else fault.stage)
    assert {scene.awaited_stage(each) for each in others} == {
        Stage.OVER if fault.others == "answered" else Stage.NOT_ASKED_NOW if fault.paused else Stage.WAITING
    }
    assert fault.reads in scene.read(page)
    if fault.calls == ("note_only", "replied"):
        # The note came by a call of its own, before the one that brought the reply.
        assert scene.notes_beside_the_reply(struck) == ([NOTED], NOTED)
    # The one admin is told once, and of nothing that ends by itself.
    assert scene.mails() == fault.paused
    scene.assert_money_is_recorded()
    scene.assert_nothing_is_twice()

    # A pause that needs a person, and a failure, are not ended by time.
    workshop.time_passes()
    workshop.sweep()
    scene.sit()
    if fault.paused:
        assert len(workshop.generations()) == len(fault.calls)
    scene.have_a_person_act(*([struck] if fault.state == "failed" else []))
    for _ in range(2):
        scene.sit()
    settled = fault.state if fault.state in {"withheld", "declined"} else "answered"
    assert [workshop.request(each).state for each in (struck, *others)] == [settled, "answered", "answered"]
    if settled == "answered":
        author, body = workshop.reply_words(struck)
        assert author == f"{NAME} (rehearsal)"
        assert "rehearsed" in body
    assert scene.sit() == "nothing to do"
    scene.assert_money_is_recorded()
    scene.assert_nothing_is_twice()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [each for each in FAULTS if each.asked != NOWHERE], ids=lambda fault: fault.asked)
def test_ends_alike_among_others_and_they_are_answered(scene: Scene, fault: Fault) -> None:
    workshop = scene.workshop
    first = workshop.asked("Do you wake?")
    struck = workshop.asked(f"Do you dream?{fault.text}")
    others = [workshop.asked(f"And number {n}?") for n in range(2)]
    scene.sit(fault)
    request = workshop.request(struck)
    assert (request.state, request.why, request.lease) == (fault.state, fault.why, None)
    assert tuple(made.outcome for made in workshop.generations(struck)) == fault.calls
    assert {workshop.request(each).state for each in (first, *others)} == {"answered"}
    # What refuses one that is not the first is about that one, unless nothing can be asked at all.
    pauses = fault.paused and fault.asked != "status=400"
    assert workshop.voice().paused_why == (fault.why if pauses else None)
    assert scene.mails() == pauses
    scene.assert_money_is_recorded()
    scene.assert_nothing_is_twice()


@pytest.mark.slow
def test_says_a_thread_that_is_longer_than_the_model_can_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = scene.workshop
    for n in range(6):
        workshop.asked(f"Earlier {n}. " + "Words. " * 600, wants_reply=False)
    workshop.asked("Do you wake?")
    scene.sit()
    [whole] = workshop.generations()
    tokens = (whole.input_tokens or 0) + (whole.cache_write_tokens or 0)
    # Half of that thread has room in such a model, and the whole has not.
    monkeypatch.setitem(CATALOGUE, MODEL, replace(CATALOGUE[MODEL], context=tokens - 100))  # type: ignore[arg-type]
    trimmed = workshop.asked("Do you dream?")
    scene.sit()
    assert [made.outcome for made in workshop.generations(trimmed)] == ["RequestRefused", "replied"]
    assert workshop.request(trimmed).state == "answered"
    # And in such a one not even the essay and the letter.
    monkeypatch.setitem(CATALOGUE, MODEL, replace(CATALOGUE[MODEL], context=600))  # type: ignore[arg-type]
    failed = workshop.asked("And now?")
    other = workshop.asked("And this?")
    scene.sit()
    assert [made.outcome for made in workshop.generations(failed)] == ["RequestRefused"] * 2
    assert [(workshop.request(each).state, workshop.request(each).why) for each in (failed, other)] == [
        ("failed", "The thread is too long to send.")
    ] * 2
    assert workshop.voice().paused_at is None
    scene.assert_money_is_recorded()


@pytest.mark.slow
def test_says_a_thread_that_no_minute_of_the_api_has_room_for(scene: Scene) -> None:
    workshop = scene.workshop
    for n in range(6):
        workshop.asked(f"Earlier {n}. " + "Words. " * 600, wants_reply=False)
    workshop.asked("Do you wake?")
    scene.sit()
    [whole] = workshop.generations()
    tokens = (whole.input_tokens or 0) + (whole.cache_write_tokens or 0)
    # Half of that thread has room in such a minute, and the whole in none, however long it waits.
    with running(RehearsalSettings(latency=0, limits=f"input-tokens={tokens - 100}")) as stage:
        trimmed = workshop.asked("Do you dream?")
        Scene(workshop, stage).sit()
    assert [made.outcome for made in workshop.generations(trimmed)] == ["LargerThanAMinute", "replied"]
    assert workshop.request(trimmed).state == "answered"
    with running(RehearsalSettings(latency=0, limits="input-tokens=600")) as stage:
        failed = workshop.asked("And now?")
        Scene(workshop, stage).sit()
    assert [made.outcome for made in workshop.generations(failed)] == ["LargerThanAMinute"] * 2
    assert [made.cost for made in workshop.generations(failed)] == [0, 0]
    assert (workshop.request(failed).state, workshop.request(failed).why) == (
        "failed",
        "The thread is longer than what the API takes from this key in a minute.",
    )
    assert workshop.voice().paused_at is None


@pytest.mark.slow
def test_pauses_for_a_quarter_of_an_hour_when_the_api_fails_again_and_again(scene: Scene) -> None:
    workshop = scene.workshop
    ids = [workshop.asked(f"Number {n}?\n[[status=500;times=3;key={secrets.token_hex(8)}]]") for n in range(6)]
    for _ in range(replies.PAUSE_AFTER):
        assert workshop.voice().paused_at is None
        scene.sit()
        # Each sitting, its first letter alone fails; then that one waits, and the next is first.
    voice = workshop.voice()
    assert (voice.paused_why, voice.paused_until is None) == ("The API is failing.", False)
    assert scene.awaited_stage(ids[-1]) is Stage.NOT_ASKED_NOW
    assert scene.sit() == "nothing to do"
    workshop.time_passes()
    workshop.sweep()
    # The pause has run out: one probes, and it is answered, so that the voice goes on by itself.
    assert scene.sit() == "1 asked"
    assert workshop.voice().paused_at is None
    for _ in range(3):
        workshop.time_passes()
        scene.sit()
    assert workshop.states() == ["answered"] * 6
    scene.assert_money_is_recorded()
    scene.assert_nothing_is_twice()


@pytest.mark.slow
def test_probes_with_one_letter_and_pauses_again_when_the_api_fails_still(scene: Scene) -> None:
    workshop = scene.workshop
    for n in range(8):
        workshop.asked(f"Number {n}?\n[[status=500;times=60;key={secrets.token_hex(8)}]]")
    for _ in range(replies.PAUSE_AFTER):
        scene.sit()
    for probes in range(1, 4):
        workshop.time_passes()
        assert scene.sit() == "1 asked"
        assert len(workshop.generations()) == 3 * (replies.PAUSE_AFTER + probes)
        assert workshop.voice().paused_until is not None
        assert scene.sit() == "nothing to do"
    # All of it was refused, so none of it was paid for.
    assert {made.cost for made in workshop.generations()} == {0}


@pytest.mark.slow
def test_pauses_a_voice_whose_key_is_not_set(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = scene.workshop
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).key_name = "ANTHROPIC_API_KEY_OTHER"
    struck, page = scene.letter("Do you dream?")
    other = workshop.asked("And this?")
    before = len(scene.stage.calls)

    def sit() -> None:
        settings = WorkerSettings(_env_file=None, anthropic_api_key="worker", anthropic_base_url=scene.stage.url)  # type: ignore[call-arg]

        async def hold() -> None:
            async with endpoints.reach(workshop.voice(), settings, None) as model:
                await sitting.answer(workshop.site, workshop.essay_id, model, at_once=4)

        asyncio.run(hold())

    sit()
    why = "No key is set: the worker has no ANTHROPIC_API_KEY_OTHER."
    assert len(scene.stage.calls) == before
    assert (workshop.request(struck).why, workshop.voice().paused_why) == (why, why)
    assert workshop.states()[-2:] == ["waiting", "waiting"]
    assert READS[Stage.NOT_ASKED_NOW] in scene.read(page)
    assert why.replace("_OTHER", "") in PAGE.read_text("utf-8")
    scene.assert_money_is_recorded()
    monkeypatch.setenv("ANTHROPIC_API_KEY_OTHER", "of-its-own")
    scene.have_a_person_act()
    sit()
    assert [workshop.request(each).state for each in (struck, other)] == ["answered", "answered"]


def test_stands_on_the_page_in_the_words_that_are_read() -> None:
    page = PAGE.read_text("utf-8")
    for fault in FAULTS:
        if fault.asked != NOWHERE:
            assert f"`{fault.asked.removesuffix(';slow=0')}`" in page, fault.asked
        assert fault.reads in page
        why = (fault.why or "").replace(MODEL, "MODEL").replace(OTHER_MODEL, "OTHER").partition(": Rehearsed")[0]
        assert why.replace("1 s", "N s").replace("2 s", "N s") in page, why
