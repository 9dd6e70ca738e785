"""Calls to the model of a `House`, as a worker records them: those that bring trouble, choices, and batches."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from bridge.answer import replies
from bridge.records import Batch, BatchState, Comment, Essay, Purpose, ReplyRequest, RequestState, Showing, Voice
from bridge.voice import model, prompt, voices
from bridge.voice.budgets import clock
from bridge.voice.model import Trouble
from ground.house import MODEL, SLUG, House, sent

ORIGIN = model.Origin("model.example", "2.12.0", "2023-06-01", rehearsed=False)


def refuse(house: House, trouble: Trouble, *, wait: float | None = None, slug: str = SLUG) -> list[int]:
    """Have each call for what waits end in *trouble*; requests fail, or *wait* so many seconds. Return the calls."""
    made = []
    with house.site.database.sessions.begin() as session:
        sitting = replies.begin_sitting(session, _essay(house, slug))
        assert sitting is not None
        for claimed in sitting.claimed:
            request = sent(sitting, claimed, house.site.keys)
            call = replies.begin_generation(session, sitting, claimed, request, ORIGIN, house.site.keys)
            assert call is not None
            made.append(call)
            replies.record_trouble(session, call, trouble, seconds=1.5)
            if wait is None:
                replies.give_up(session, sitting, claimed, trouble.why)
            else:
                replies.wait_again(session, sitting, claimed, trouble.why, seconds=wait)
    return made


def choose(house: House, chosen: Collection[str], *, slug: str = SLUG) -> int:
    """Have the voice shown what waits and choose those with these public ids; return the call."""
    keys = house.site.keys
    with house.site.database.sessions.begin() as session:
        sitting = replies.begin_sitting(session, _essay(house, slug))
        assert sitting is not None
        asked = [each.asked for each in sitting.claimed]
        request = prompt.build_choice(prompt.beginning(sitting.told, keys), asked, keys, at_most=5, cached=False)
        voice = voices.held(session, sitting.voice_id)
        first = sitting.claimed[0].comment_id
        made = replies.new_generation(session, sitting, voice, first, request, ORIGIN, keys, purpose=Purpose.CHOICE)
        session.flush()
        message = {"type": "message", "id": "msg_1", "model": MODEL, "usage": {"input_tokens": 70, "output_tokens": 9}}
        content = [{"type": "tool_use", "id": "t", "name": "choose", "input": {"letters": [1]}}]
        whole = message | {"content": content, "stop_reason": "tool_use"}
        replies.completed(session, made.id, model.read(whole, asked=MODEL, request_id="req_1", rehearsed=False), 2.0)
        for number, each in enumerate(sitting.claimed, start=1):
            comment = session.get_one(Comment, each.comment_id)
            picked = comment.public_id in chosen
            session.add(Showing(generation_id=made.id, comment_id=comment.id, number=number, chosen=picked))
            wanted = session.get_one(ReplyRequest, comment.id)
            wanted.state = (RequestState.WAITING if picked else RequestState.NOT_CHOSEN).value
            wanted.chosen_at = clock(session) if picked else None
            wanted.lease = wanted.leased_until = None
        return made.id


def send_away(house: House, *, slug: str = SLUG) -> int:
    """Have what waits sent in a batch; return the batch."""
    with house.site.database.sessions.begin() as session:
        sitting = replies.begin_sitting(session, _essay(house, slug))
        assert sitting is not None
        batch = Batch(
            voice_id=sitting.voice_id,
            essay_id=sitting.essay_id,
            lease=sitting.lease,
            remote_id=f"msgbatch_{sitting.lease}",
            state=BatchState.SENT.value,
            requests=len(sitting.claimed),
            created_at=clock(session),
            asked_at=clock(session).timestamp(),
        )
        session.add(batch)
        session.flush()
        for claimed in sitting.claimed:
            name = (batch.id, f"rr-{claimed.comment_id}-1")
            request = sent(sitting, claimed, house.site.keys)
            replies.begin_generation(session, sitting, claimed, request, ORIGIN, house.site.keys, batch=name)
        return batch.id


def picks(house: House) -> None:
    """Have the voice pick the letters it answers."""
    with house.site.database.sessions.begin() as session:
        session.scalars(select(Voice)).one().answering = "chosen"


def _essay(house: House, slug: str) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Essay.id).where(Essay.slug == slug)).one()
