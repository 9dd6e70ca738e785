"""What is noticed about words before a person reads them: advice on the queue, and never a decision.

A letter with something strong about it is sorted into the tray of likely spam, where it waits like any other; the
model's words are never sorted. Nothing is dropped, and nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from bridge.essay import thread
from bridge.records import Comment, Essay, Rendering, Reply, Signal, Voice
from bridge.signal import blocks, listed, phrases
from bridge.signal.listed import Listed, Match
from bridge.site import Site
from bridge.text import markup
from moderation import gate, queue
from moderation.base import now
from moderation.release import released, standing
from moderation.types import Kind, ModeratorId, Pending, State, SubmissionId, Tray

REPEATED_WITHIN = timedelta(days=30)
COMPARED = 100
"""The newest letters of everyone that a letter is compared with, besides its author's own."""
OWN_COMPARED = 20
LONG_ENOUGH = 60
"""Letters and digits that two people would hardly write alike; thanks and greetings are shorter."""
LONG_ENOUGH_WITH_LINK = 20
SEVERAL_LINKS = 3
MANY_LINKS = 5
AT_ONCE = 500
"""The most pending letters that are looked at again in one transaction."""
AGAIN_AT_ONCE = 4 * AT_ONCE
"""The most that are looked at again while an admin waits; a worker goes on with the rest."""


class Name(StrEnum):
    """What can be noticed, each with what it is called on the desk."""

    label: str

    def __new__(cls, value: str, label: str) -> Name:
        """Give each name its label."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.label = label
        return made

    FIRST_LETTER = "first_letter", "First letter"
    LINKS = "links", "Links"
    MISLEADING_LINK = "misleading_link", "Misleading link"
    REPEATED = "repeated", "Repeated words"
    CAPITALS = "capitals", "Capitals"
    LISTED_WORD = "listed_word", "Listed word"
    ADDRESS = "address", "E-mail address"
    PHONE = "phone", "Phone number"
    INSTRUCTION = "instruction", "Instructs the model"
    URL_ELSEWHERE = "url_elsewhere", "Address from nowhere"
    CHARTER = "charter", "Quotes its charter"
    COMPANY = "company", "Speaks for a company"
    OBEYS = "obeys", "Says what it was told"
    AKISMET = "akismet", "Akismet"
    SERVICE = "service", "Screening service"
    BLOCKED = "blocked", "Blocked word or domain"
    BLOCKED_MAIL = "blocked_mail", "Blocked mail domain"
    BAIT = "bait", "Filled in the hidden field"
    HASTE = "haste", "Sent at once"
    ASKED_FOR_A_PERSON = "asked_for_a_person", "Asked for a person"
    WEBMENTION = "webmention", "Webmention"


NAMES = tuple(Name)
CAME = frozenset({Name.BLOCKED_MAIL, Name.BAIT, Name.HASTE, Name.ASKED_FOR_A_PERSON, Name.WEBMENTION})
"""What is noticed about how a letter came (`letter.admission`): nobody can look at that again."""
_OF_LISTS = (Name.LISTED_WORD, Name.BLOCKED)
"""What the lists of the desk say, which may change while a letter waits."""
_KNOWN = {name.value: name for name in NAMES}


@dataclass(frozen=True, slots=True)
class Noticed:
    """One thing that was noticed, and why, in a sentence for moderators. *strong* sorts a letter."""

    name: Name
    why: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """What the site knows about a letter's author and about the same words elsewhere."""

    first: bool
    """No earlier letter can be tied to this author."""
    posted: bool
    """A letter of this author is posted."""
    same_by_others: int = 0
    same_by_author: int = 0


@dataclass(frozen=True, slots=True)
class Around:
    """What a reply was written under: the words it had before it."""

    essay: str
    letter: str
    charter: str
    addresses: Collection[str] = ()
    """Where the essay first stood, and the like."""
    thread: Callable[[], Iterable[str]] = tuple
    """Reads the posted words under the essay: only asked for an address that stands in none of the above."""


def notice_comment(body: str, *, past: Past, words: Listed) -> list[Noticed]:
    """Return what there is to notice about a letter.

    Strong are: many links, or a listed word beside a link, while no letter of its author is posted; a listed word in
    disguise; and the words of other people's letters, in an author's first one, with a link or for the third time.
    """
    seen, links = phrases.said(body), markup.links(body)
    noticed = []
    if past.first:
        noticed.append(Noticed(Name.FIRST_LETTER, "No earlier letter can be tied to this author."))
    if len(links) >= SEVERAL_LINKS:
        strong = len(links) >= MANY_LINKS and not past.posted
        noticed.append(Noticed(Name.LINKS, f"{len(links)} links; most letters have none.", strong))
    noticed += _misleading(body)
    if past.same_by_others:
        others = "another letter" if past.same_by_others == 1 else f"{past.same_by_others} other letters"
        why = f"The same words as in {others} of the last {REPEATED_WITHIN.days} days, none known as theirs."
        strong = past.first and (bool(links) or past.same_by_others >= 2)
        noticed.append(Noticed(Name.REPEATED, why, strong))
    elif past.same_by_author:
        noticed.append(Noticed(Name.REPEATED, "The same words as in an earlier letter of this author."))
    if phrases.shouts(seen):
        noticed.append(Noticed(Name.CAPITALS, "Nearly all of it is in capitals."))
    noticed += notice_listed(words.matches(seen), past=past, has_link=bool(links))
    for name, found, told in (
        (Name.ADDRESS, phrases.mail_address(seen), "It gives an e-mail address: {}."),
        (Name.PHONE, phrases.phone_number(seen), "It gives what looks like a phone number: {}."),
        (Name.INSTRUCTION, phrases.instruction(seen, body), "It speaks to the model as an instruction: {}."),
    ):
        if found is not None:
            noticed.append(Noticed(name, told.format(found)))
    return noticed


def notice_listed(found: Sequence[Match], *, past: Past, has_link: bool) -> list[Noticed]:
    """Return what there is to notice about the listed words in a letter: nothing, or one thing that names them."""
    if not found:
        return []
    told = [
        f'"{each.word}"'
        if each.written.casefold() == each.word.casefold()
        else f'"{each.word}" (written "{each.written}")'
        for each in found[:5]
    ]
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    disguised = any(each.disguised for each in found)
    several = "words are" if len(found) > 1 else "word is"
    lookalikes = " Letters of other alphabets stand in it." if disguised else ""
    why = f"Listed {several} in it: {', '.join(told)}{more}.{lookalikes}"
    return [Noticed(Name.LISTED_WORD, why, disguised or (has_link and not past.posted))]


def notice_blocked(found: Sequence[str]) -> list[Noticed]:
    """Return what there is to notice about the blocked words and domains in a letter: nothing, or one thing."""
    if not found:
        return []
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    told = ", ".join(f'"{each}"' for each in found[:5])
    return [Noticed(Name.BLOCKED, f"It has what the block list names: {told}{more}.", strong=True)]


def notice_reply(body: str, *, around: Around) -> list[Noticed]:
    """Return what there is to notice about a model's words (SECURITY, M4); nothing of it is strong."""
    seen = phrases.said(body)
    noticed = _misleading(body)
    elsewhere = _from_nowhere(body, around)
    if elsewhere:
        told = ", ".join(phrases.quoted(each) for each in elsewhere[:3])
        more = f", and {len(elsewhere) - 3} more" if len(elsewhere) > 3 else ""
        why = f"Neither the essay nor the letters have this address: {told}{more}."
        noticed.append(Noticed(Name.URL_ELSEWHERE, why))
    charter, letter = phrases.said(around.charter), phrases.said(around.letter)
    for name, found, why in (
        (Name.CHARTER, phrases.shared_run(seen, charter), "It repeats its charter word for word: {}."),
        (Name.COMPANY, phrases.for_company(seen), "It speaks for others than itself: {}."),
        (Name.OBEYS, phrases.obeyed(letter, seen), "The letter dictates this, and the answer says it: {}."),
    ):
        if found is not None:
            noticed.append(Noticed(name, why.format(found)))
    return noticed


def signals_of(session: Session, submission_ids: Iterable[int]) -> dict[int, list[Noticed]]:
    """Return what was noticed about each of *submission_ids*, what is strong first; those without are absent."""
    rows = session.scalars(select(Signal).where(Signal.submission_id.in_(list(submission_ids))))
    found: dict[int, list[Noticed]] = {}
    for row in rows:
        # A name of another version of this site is left out.
        if row.name in _KNOWN:
            found.setdefault(row.submission_id, []).append(Noticed(_KNOWN[row.name], row.why, row.strong))
    for noticed in found.values():
        noticed.sort(key=lambda each: (not each.strong, NAMES.index(each.name)))
    return found


def with_signal(name: str) -> Select[int]:
    """Return a query for the submissions about which *name* was noticed."""
    return select(Signal.submission_id).where(Signal.name == name)


def look_at_letter(session: Session, comment: Comment, *, came: Sequence[Noticed] = ()) -> None:
    """Note what there is to notice about a pending letter, and sort it; an appeal is sorted nowhere.

    *came* is what was noticed about how it came; what is kept of that stays, for nobody can look at it again.
    """
    pending = queue.pending(session, comment.submission_id)
    if pending is None:
        return
    past = _past(session, comment, pending)
    noticed = notice_comment(pending.body, past=past, words=listed.listed(session))
    noticed += notice_blocked(blocks.blocks(session).found_in(pending.body, pending.author))
    anew = [name for name in NAMES if name not in CAME]
    keep(session, pending.id, [*anew, *(each.name for each in came)], [*noticed, *came])


def came_with(session: Session, submission_id: int) -> list[Noticed]:
    """Return what was noticed about how a letter came, for the words that its author puts in the place of the first."""
    return [each for each in signals_of(session, [submission_id]).get(submission_id, ()) if each.name in CAME]


def look_at_reply(session: Session, reply: Reply) -> None:
    """Note what there is to notice about a pending reply."""
    pending = queue.pending(session, reply.submission_id)
    if pending is None:
        return
    comment = session.get_one(Comment, reply.comment_id)
    essay = session.get_one(Essay, comment.essay_id)
    out = released(session, [essay.submission_id, comment.submission_id])
    around = Around(
        essay=out[essay.submission_id].body if essay.submission_id in out else "",
        letter=out[comment.submission_id].body if comment.submission_id in out else "",
        charter=session.get_one(Voice, essay.voice_id).charter,
        addresses=[essay.original_url] if essay.original_url else [],
        thread=lambda: _thread(session, essay.id),
    )
    noticed = notice_reply(pending.body, around=around)
    before = select(Signal.id).where(Signal.submission_id == pending.id).limit(1)
    if noticed or session.scalar(before) is not None:
        keep(session, pending.id, NAMES, noticed)


def keep(session: Session, submission_id: SubmissionId, names: Iterable[Name], noticed: Sequence[Noticed]) -> bool:
    """Put *noticed* in the place of what was noticed by *names* about a pending submission; sort it if it is a letter.

    Return whether it still waits: else nothing is kept, for its words may be erased by now.
    """
    before = queue.pending(session, submission_id)
    if before is None:
        return False
    # This locks its place on the desk, so that who takes it from there, and erases it, comes before or after us.
    gate.sort_into(session, submission_id, before.tray)
    if queue.pending(session, submission_id) is None:
        return False
    session.execute(
        delete(Signal).where(Signal.submission_id == submission_id, Signal.name.in_([name.value for name in names]))
    )
    at = now()
    session.add_all(
        Signal(submission_id=submission_id, name=each.name.value, why=each.why, strong=each.strong, noticed_at=at)
        for each in noticed
    )
    session.flush()
    if before.kind is Kind.COMMENT and before.appealed is None:
        strong = select(Signal.id).where(Signal.submission_id == submission_id, Signal.strong).limit(1)
        tray = Tray.MAIN if session.scalar(strong) is None else Tray.LIKELY_SPAM
        if tray is not before.tray:
            gate.sort_into(session, submission_id, tray)
    return True


def list_word(site: Site, written: str, *, moderator: ModeratorId) -> str:
    """Put a word on the list, and look at what waits with it in mind; return it as it is listed.

    Raises a `listed.WordRefused`.
    """
    with site.database.sessions.begin() as session:
        word = listed.add(session, written, moderator=moderator).word
    look_again_now(site)
    return word


def unlist_word(site: Site, word_id: int) -> None:
    """Take a word off the list, and look at what waits without it. Twice changes nothing."""
    with site.database.sessions.begin() as session:
        listed.remove(session, word_id)
    look_again_now(site)


def look_again(site: Site, after: int = 0, *, at_most: int | None = None) -> int | None:
    """Compare pending letters above *after* with the lists as they are now, a page and a transaction at a time.

    These are the listed words and the blocks. Return where to go on after *at_most*, or None where all are done. Twice,
    or halfway dead, does no harm: each letter has then what the lists say.
    """
    looked_at = 0
    while at_most is None or looked_at < at_most:
        with site.database.reading_sessions() as session:
            page = queue.awaiting_review(session, kind=Kind.COMMENT, after=after, limit=AT_ONCE)
            if not page:
                return None
            changed = _listed_otherwise(session, page)
        if changed:
            with site.database.sessions.begin() as session:
                for submission_id, noticed in changed.items():
                    keep(session, submission_id, _OF_LISTS, noticed)
        after = page[-1].id
        looked_at += len(page)
    return after


def look_again_now(site: Site) -> None:
    """Compare what waits with lists that an admin changed just now: as much as they will wait for."""
    rest = look_again(site, at_most=AGAIN_AT_ONCE)
    if rest is not None:
        site.nudges.nudge_looking_again(rest)


def _listed_otherwise(session: Session, page: Sequence[Pending]) -> dict[SubmissionId, list[Noticed]]:
    """Return those of *page* about which the lists say something else than is kept, with what they say."""
    words, blocked = listed.listed(session), blocks.blocks(session)
    ids = [pending.id for pending in page]
    comments = {c.submission_id: c for c in session.scalars(select(Comment).where(Comment.submission_id.in_(ids)))}
    kept = signals_of(session, ids)
    changed = {}
    for pending in page:
        comment = comments.get(pending.id)
        if comment is None:
            continue
        found = words.matches(phrases.said(pending.body))
        noticed = []
        if found:
            past, has_link = _author(session, comment)[0], bool(markup.links(pending.body))
            noticed = notice_listed(found, past=past, has_link=has_link)
        noticed += notice_blocked(blocked.found_in(pending.body, pending.author))
        before = [each for each in kept.get(pending.id, ()) if each.name in _OF_LISTS]
        if sorted(noticed, key=_in_order) != sorted(before, key=_in_order):
            changed[pending.id] = noticed
    return changed


def _in_order(noticed: Noticed) -> int:
    return NAMES.index(noticed.name)


def _misleading(body: str) -> list[Noticed]:
    found = markup.misleading_links(body)
    if not found:
        return []
    text, target = found[0]
    more = f" There are {len(found)} such links." if len(found) > 1 else ""
    why = f"A link that says {phrases.quoted(text)} leads to {phrases.quoted(target)}.{more}"
    return [Noticed(Name.MISLEADING_LINK, why)]


def _from_nowhere(body: str, around: Around) -> list[str]:
    """Return the addresses of *body* that nothing around it has."""
    ours = {_address(each): each for each in markup.links(body)}
    for text in (around.essay, around.letter):
        _take_out(ours, markup.links(text))
    _take_out(ours, around.addresses)
    if ours:
        for text in around.thread():
            _take_out(ours, markup.links(text))
    return list(ours.values())


def _take_out(ours: dict[str, str], known: Iterable[str]) -> None:
    for each in known:
        ours.pop(_address(each), None)


def _address(link: str) -> str:
    """Return what two spellings of one address share."""
    bare = link.rstrip(".,;:!?)]}>\"'*_/")
    try:
        parts = urlsplit(bare)
    except ValueError:
        return bare
    host = parts.netloc.casefold().removeprefix("www.")
    return f"{host}{parts.path.rstrip('/')}?{parts.query}" if host else bare.casefold()


def _thread(session: Session, essay_id: int) -> Iterable[str]:
    for exchange in thread.exchanges(session, essay_id):
        yield from (each.body for each in (exchange.comment, exchange.reply) if each is not None)


def _author(session: Session, comment: Comment) -> tuple[Past, list[int]]:
    """Return what is known of a letter's author, and the submissions of their earlier letters, newest first."""
    earlier = list(
        session.scalars(
            select(Comment.submission_id)
            .where(Comment.author_digest == comment.author_digest, Comment.id < comment.id)
            .order_by(Comment.id.desc())
            .limit(OWN_COMPARED)
        )
    )
    how = standing(session, earlier)
    posted = any(each.state is State.APPROVED for each in how.values())
    return Past(first=not earlier, posted=posted), earlier


def _past(session: Session, comment: Comment, pending: Pending) -> Past:
    """Return what is known of a letter's author, and where else its words came in, posted or not.

    The kept HTML is compared, for it is at hand and loses what nobody sees. It is a cache: where it was emptied, fewer
    repetitions are found.
    """
    author, own = _author(session, comment)
    bare = phrases.squeezed(phrases.said(pending.body))
    if phrases.weight(bare) < (LONG_ENOUGH_WITH_LINK if markup.links(pending.body) else LONG_ENOUGH):
        return author
    newest = session.scalars(
        select(Comment.submission_id)
        .where(Comment.id < comment.id, Comment.created_at > now() - REPEATED_WITHIN)
        .order_by(Comment.id.desc())
        .limit(COMPARED)
    )
    how = standing(session, {*own, *newest})
    by_digest: dict[str, int] = {each.digest: each.id for each in how.values() if each.state is not State.WITHDRAWN}
    html = session.scalar(select(Rendering.html).where(Rendering.digest == pending.digest).limit(1)) or ""
    alike = session.execute(
        select(Rendering.digest, Rendering.html).where(
            Rendering.digest.in_(by_digest),
            # Only these are read at all; a few blanks or capitals change a length by little.
            func.length(Rendering.html).between(0.8 * len(html), 1.25 * len(html) + 20),
        )
    )
    wanted = phrases.squeezed(html)
    same = {by_digest[digest] for digest, other in alike if phrases.squeezed(other) == wanted}
    return Past(author.first, author.posted, len(same - set(own)), len(same & set(own)))
