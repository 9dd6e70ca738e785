"""The commands of `emeritus` that need no worker: records, people, words, verdicts."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import OperationalError

from bridge import db, migrate, settings
from bridge.answer import calls, replaying
from bridge.desk import keeping, reviews
from bridge.essay import embedding, essays
from bridge.letter import belongings, erased_before, erasure
from bridge.mail import outbox
from bridge.page import checkpoints, tally
from bridge.people import accounts, invitations
from bridge.records import Answering, Calls, Endpoint, Voice
from bridge.site import Site, open_site
from bridge.text import words
from bridge.voice import budgets, prices, voices, ways
from bridge.voice.prices import Price
from moderation import errors, ledger, moderators
from moderation.base import now
from moderation.types import Digest, Kind, Rejection

_REFUSALS = (
    settings.SettingsRefused,
    migrate.SchemaRefused,
    db.WrongRole,
    accounts.AccountRefused,
    essays.EssayRefused,
    voices.VoiceRefused,
    words.WordsRefused,
    checkpoints.CheckpointRefused,
    essays.NoSuchEssay,
    calls.NoSuchCall,
    erasure.NotAnAddress,
    errors.Refused,
    errors.NotWhatWasReviewed,
)


class OneSentence(click.Group):
    """A group whose refusals are one sentence and a non-zero exit, never a traceback."""

    refusals: tuple[type[Exception], ...] = _REFUSALS

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say what it refused."""
        try:
            return super().invoke(ctx)
        except self.refusals as refused:
            raise click.ClickException(str(refused)) from None
        except OperationalError as error:
            raise click.ClickException(f"The database cannot be reached: {type(error.orig).__name__}.") from None


as_json = click.option("--json", "as_json", is_flag=True, help="For a script to read.")


@contextmanager
def opened() -> Iterator[Site]:
    """Open the site, if its database is one this version can work with."""
    site = open_site(settings.load(settings.Settings))
    try:
        try:
            migrate.check(site.database.reading)
        except OperationalError:
            raise migrate.SchemaRefused("There is no database yet. Run `emeritus migrate` first.") from None
        yield site
    finally:
        site.database.dispose()


@click.command("migrate")
def migrate_command() -> None:
    """Make the database, or bring it to this version."""
    migrate.migrate(settings.load(settings.Settings))
    click.echo(f"The database is at migration {migrate.head()}.")


@click.group()
def voice() -> None:
    """The retired models that write here."""


WAY_OPTIONS = (
    click.option(
        "--answering",
        type=click.Choice([each.value for each in Answering]),
        help="Each letter, or those it chose of what waits.",
    ),
    click.option(
        "--calls",
        type=click.Choice([each.value for each in Calls]),
        help="Live, in batches at half the price, or by the rule.",
    ),
    click.option("--depth", help="How many letters deep a conversation is answered; 10 unless set."),
    click.option("--memory-tokens", help="Tokens of other letters, answers and essays it is shown; 6000 unless set."),
    click.option("--calls-at-once", help="Over all workers; none for no bound but each worker's."),
    click.option("--requests-a-minute", help="None: what the API's headers say. So with the next two."),
    click.option("--input-tokens-a-minute", help="Tokens that it is sent."),
    click.option("--output-tokens-a-minute", help="Tokens that it writes."),
    click.option("--max-tokens", help="The most it may write at once; 1500 unless set, or 8000 if it thinks unasked."),
    click.option("--anthropic-version", help="Sent with its requests; the SDK's unless given."),
    click.option("--extra-body", help="A JSON object that its requests carry besides."),
    click.option(
        "--endpoint",
        type=click.Choice([each.value for each in Endpoint]),
        help="Who serves the model; anthropic unless set.",
    ),
    click.option("--region", help="For Bedrock and Vertex."),
    click.option("--project", help="For Vertex."),
    click.option("--base-url", help="Of a compatible server, such as one of your own; the worker's unless given."),
    click.option("--key-name", help="The variable that holds its key for the workers: ANTHROPIC_API_KEY_SOMETHING."),
    click.option("--disclaimer", help="Shown on its essays and replies."),
    click.option("--retired-on", help="The day it was retired, such as 2026-01-05."),
)


def ways_given(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* an option for each way of a voice."""
    for option in reversed(WAY_OPTIONS):
        command = option(command)
    return command


@voice.command("add")
@click.argument("name")
@click.option("--model", required=True, help="Its id in the Messages API, such as claude-3-opus-20240229.")
@click.option("--charter", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="A file.")
@click.option("--price-in", type=click.FloatRange(0), help="US dollars for a million input tokens, if no table has it.")
@click.option("--price-out", type=click.FloatRange(0), help="US dollars for a million output tokens.")
@click.option("--about", help="What readers are told of it on its own page, in plain words.")
@ways_given
def voice_add(
    name: str,
    model: str,
    charter: Path,
    price_in: float | None,
    price_out: float | None,
    about: str | None,
    **given: str | None,
) -> None:
    """Add the voice NAME. Its charter is the system prompt that it is asked under."""
    told = ways.read(_written(given), voices.Ways(max_tokens=voices.room_for(model)))
    new = voices.NewVoice(
        name=name,
        model=model,
        charter=_text_of(charter),
        price_in=price_in,
        price_out=price_out,
        **{way: getattr(told, way) for way in voices.WAYS},
    )
    with opened() as site, site.database.sessions.begin() as session:
        added = voices.add(session, new)
        if about is not None:
            voices.set_about(session, added, about)
        click.echo(f"{added.name} writes here now; essays come with `emeritus essay add FILE.md --voice {added.slug}`.")
    _tell_whose_key(added)


@voice.command("set")
@click.argument("name")
@click.option("--about", help="What readers are told of it on its own page, in plain words; none for nothing.")
@ways_given
def voice_set(name: str, about: str | None, **given: str | None) -> None:
    """Change in what ways the voice NAME is asked, from its next sitting on. What is left out stays; none clears."""
    changed = _written(given)
    if not changed and about is None:
        raise click.UsageError("Say what to change. `emeritus voice show NAME` shows what is set.")
    with opened() as site:
        with site.database.reading_sessions() as session:
            slug = voices.named(session, name).slug
        if changed:
            keeping.set_ways(site, slug, changed)
        if about is not None:
            with site.database.sessions.begin() as session:
                voices.set_about(session, voices.at(session, slug), "" if about == "none" else about)
            click.echo(f"Readers are told so on {site.settings.address}/voices/{slug}.")
        with site.database.reading_sessions() as session:
            found = voices.named(session, name)
    as_set = ways.written(voices.ways_of(found))
    for option in changed:
        click.echo(f"{option.replace('_', ' ')}: {on_a_terminal(as_set[option]) or 'none'}")
    if changed:
        click.echo(f"{found.name} is asked so from its next sitting on.")
    _tell_whose_key(found)


@voice.command("list")
@as_json
def voice_list(as_json: bool) -> None:
    """List the voices."""
    with opened() as site, site.database.reading_sessions() as session:
        found = [
            {
                "name": each.name,
                "slug": each.slug,
                "model": each.model,
                "endpoint": each.endpoint,
                "answering": each.answering,
                "calls": each.calls,
                "stand_in": each.stand_in,
                "retired_on": each.retired_on.isoformat() if each.retired_on else None,
                "paused": not voices.may_be_asked(session, each),
                "paused_why": each.paused_why,
            }
            for each in voices.everyone(session)
        ]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    for each in [] if as_json else found:
        state = f"paused: {each['paused_why']}" if each["paused"] else "answers"
        click.echo(f"{each['name']}  {each['model']}  {state}")
    if not found and not as_json:
        click.echo("There is no voice.")


@voice.command("pause")
@click.argument("name")
@click.option("--why", default="Paused by hand.", show_default=True)
def voice_pause(name: str, why: str) -> None:
    """Ask the voice NAME nothing more until it is resumed. What waits keeps waiting."""
    with opened() as site, site.database.sessions.begin() as session:
        voices.pause(session, voices.named(session, name), why)
    click.echo(f"{name} is paused.")


@voice.command("resume")
@click.argument("name")
def voice_resume(name: str) -> None:
    """Ask the voice NAME again; the sweep finds what waits within a minute."""
    with opened() as site, site.database.sessions.begin() as session:
        voices.resume(session, voices.named(session, name))
    click.echo(f"{name} answers again.")


@voice.command("budgets")
@click.argument("name")
@click.option("--cost-a-day", help="US dollars, such as 2.50; none for no bound.")
@click.option("--cost-a-month", help="US dollars, such as 40; none for no bound.")
@click.option("--replies-a-day", help="A whole number; none for no bound.")
@click.option("--replies-a-month", help="A whole number; none for no bound.")
@click.option(
    "--replies-a-reader",
    help="To one reader in a day, as far as one can be known: by the secret of the browser or the API. none: no bound.",
)
@click.option("--replies-a-thread", help="Under one essay in a day; none for no bound.")
def voice_budgets(name: str, **given: str | None) -> None:
    """Bound what the voice NAME costs and how often it answers. What is left out stays as it is."""
    changed = _written(given)
    with opened() as site:
        with site.database.reading_sessions() as session:
            found = voices.named(session, name)
            as_it_is = budgets.written(budgets.bounds_of(found))
        bounds = budgets.read_bounds(as_it_is | changed)
        if changed:
            keeping.set_bounds(site, found.slug, bounds)
    for option, value in budgets.written(bounds).items():
        click.echo(f"{option.replace('_', ' ')}: {value or 'no bound'}")
    if prices.of(found, now()) is None:
        click.echo(
            f"No price is known for {found.name}, and with a bound in dollars it is not asked. "
            "`emeritus voice prices` sets one."
        )


@voice.command("prices")
@click.argument("name")
@click.option("--price-in", type=click.FloatRange(0), help="US dollars for a million input tokens.")
@click.option("--price-out", type=click.FloatRange(0), help="US dollars for a million output tokens.")
@click.option("--from-table", is_flag=True, help="Forget the prices of its own: those of the table hold.")
def voice_prices(name: str, price_in: float | None, price_out: float | None, from_table: bool) -> None:
    """Say what the voice NAME costs, where the table of prices does not or says something else."""
    if from_table and (price_in is not None or price_out is not None):
        raise click.UsageError("Give prices, or --from-table, and not both.")
    with opened() as site, site.database.sessions.begin() as session:
        found = voices.named(session, name)
        if from_table or price_in is not None or price_out is not None:
            voices.set_prices(session, found, price_in=price_in, price_out=price_out)
            budgets.put_off_no_longer(session, found)  # The sweep asks for it within a minute.
        price = prices.of(found, now())
    click.echo(f"{found.name} costs {_as_told(price)}." if price else f"No price is known for {found.name}.")


@voice.command("show")
@click.argument("name")
@as_json
def voice_show(name: str, as_json: bool) -> None:
    """Show the voice NAME: whether it answers and how, what it is asked, what it costs."""
    with opened() as site, site.database.reading_sessions() as session:
        kept = keeping.one(session, voices.named(session, name).slug)
    found = {
        "name": kept.voice.name,
        "slug": kept.voice.slug,
        "model": kept.voice.model,
        "answers": kept.answers,
        "paused_why": kept.voice.paused_why,
        **asdict(kept.ways),
        "requests": {state.value: count for state, count in kept.counts.items()},
        "cost": {"today": kept.spent.day.cost, "this_month": kept.spent.month.cost} if kept.price else None,
        "price": kept.price.as_record() if kept.price else None,
        "replies": {"today": kept.spent.day.replies, "this_month": kept.spent.month.replies},
        "budgets": asdict(kept.bounds),
        "charter": kept.voice.charter,
    }
    if as_json:
        # A day is all that is neither words nor numbers.
        click.echo(json.dumps(found, indent=2, ensure_ascii=False, default=str))
        return
    state = "answers" if kept.answers else f"paused: {on_a_terminal(kept.voice.paused_why or '')}"
    click.echo(f"{kept.voice.name}  {kept.voice.model}  {state}")
    requests = ", ".join(f"{count} {state.value}" for state, count in kept.counts.items() if count)
    click.echo(f"requests  {requests or 'none yet'}")
    click.echo(f"price  {_as_told(kept.price) if kept.price else 'none is known'}")
    for period, spent in (("today", kept.spent.day), ("this month", kept.spent.month)):
        cost = budgets.dollars(spent.cost) if kept.price else "no prices"
        click.echo(f"{period}  {cost}, {_counted(spent.replies, 'reply', 'replies')}")
    for option, value in budgets.written(kept.bounds).items():
        click.echo(f"{option.replace('_', ' ')}  {value or 'no bound'}")
    for option, value in ways.written(kept.ways).items():
        click.echo(f"{option.replace('_', ' ')}  {on_a_terminal(value) or 'none'}")


@click.group()
def essay() -> None:
    """What the voices wrote."""


@essay.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--voice", "voice_name", help="Whose it is; may be left out while there is one voice.")
@click.option("--slug", help="Its address; made from its title unless given.")
@click.option("--url", help="Where it was first published.")
@click.option("--written-on", type=click.DateTime(["%Y-%m-%d"]), help="The day it was written.")
@click.option("--parents", help="The sites that may show its letters in a frame: origins with blanks between them.")
def essay_add(
    file: Path, voice_name: str | None, slug: str | None, url: str | None, written_on: Any, parents: str | None
) -> None:
    """Put FILE, Markdown that begins with `# Title`, before the gate: it waits there for a person."""
    with opened() as site, site.database.sessions.begin() as session:
        everyone = voices.everyone(session)
        if voice_name is None and len(everyone) != 1:
            raise essays.EssayRefused("Say whose essay this is, with --voice. `emeritus voice list` shows them.")
        whose = voices.named(session, voice_name) if voice_name else everyone[0]
        day: date | None = written_on.date() if written_on else None
        added = essays.submit_essay(
            session, whose, _text_of(file), slug=slug, original_url=url, written_on=day, parents=parents
        )
        click.echo(f"/essays/{added.slug} waits at the gate as submission {added.submission_id}.")


@essay.command("list")
@as_json
def essay_list(as_json: bool) -> None:
    """List the essays, pending ones too."""
    with opened() as site, site.database.reading_sessions() as session:
        out = {each.essay.id for each in essays.all_published(session, limit=1_000_000)}
        found = [
            {"slug": e.slug, "voice": v.name, "submission": e.submission_id, "released": e.id in out}
            for e, v in essays.everyone(session)
        ]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    for each in [] if as_json else found:
        click.echo(f"{each['slug']}  {each['voice']}  {'released' if each['released'] else 'not released'}")
    if not found and not as_json:
        click.echo("There is no essay.")


@essay.command("parents")
@click.argument("slug")
@click.argument("origins", nargs=-1)
@click.option("--none", "no_own", is_flag=True, help="Let the essay have no sites of its own.")
def essay_parents(slug: str, origins: tuple[str, ...], no_own: bool) -> None:
    """Let pages of ORIGINS show the letters about the essay at SLUG in a frame; without any, tell which may."""
    if no_own and origins:
        raise click.UsageError("Give origins, or --none.")
    with opened() as site:
        allowed = embedding.allow(site, slug, " ".join(origins) if origins or no_own else None)
    click.echo("\n".join(allowed) if allowed else "No other site may show it in a frame.")


@essay.command("close")
@click.argument("slug")
@click.option("--why", required=True, help="What readers are told where the form stood.")
def essay_close(slug: str, why: str) -> None:
    """Take no more letters about the essay at SLUG; those that were sent go on as ever."""
    with opened() as site:
        essays.close(site, slug, why)
    click.echo(f"/essays/{slug} takes no letters now.")


@essay.command("open")
@click.argument("slug")
def essay_open(slug: str) -> None:
    """Take letters about the essay at SLUG again."""
    with opened() as site:
        essays.reopen(site, slug)
    click.echo(f"/essays/{slug} takes letters.")


@click.group()
def moderator() -> None:
    """The people who decide."""


@moderator.command("add")
@click.argument("email")
@click.option("--role", type=click.Choice(moderators.ROLES), default="moderator", show_default=True)
@click.option("--name", help="Shown with their decisions; the part before the @ unless given.")
def moderator_add(email: str, role: str, name: str | None) -> None:
    """Make an account for EMAIL. Without a terminal a password is made and printed.

    Where SMTP_URL is set, EMAIL is also sent a link to set a password of their own.
    """
    password = _password()
    hashed = accounts.Hashed(accounts.hashed(password))
    with opened() as site:
        with site.database.sessions.begin() as session:
            accounts.add_moderator(session, email, role=role, password=hashed, name=name)
        if site.settings.smtp_url:
            try:
                link = invitations.send_invitation(site, email)
            except outbox.MailRefused as refused:
                click.echo(f"The account is made. {refused}", err=True)
            else:
                click.echo(f"A mail with this link is on its way; it lets them set their own password, once:\n{link}")
    _tell_password(email, password)


@moderator.command("reset")
@click.argument("email")
@click.option("--factors", is_flag=True, help="Remove authenticator, passkeys and recovery codes too.")
def moderator_reset(email: str, factors: bool) -> None:
    """Give EMAIL a new password and end its sessions."""
    password = _password()
    hashed = accounts.Hashed(accounts.hashed(password))
    with opened() as site, site.database.sessions.begin() as session:
        accounts.reset_password(session, email, hashed, factors=factors)
    _tell_password(email, password)


@moderator.command("deactivate")
@click.argument("email")
def moderator_deactivate(email: str) -> None:
    """Take the account of EMAIL out of use: no sign-in, no token, no verdict. Their decisions stay."""
    with opened() as site, site.database.sessions.begin() as session:
        accounts.deactivate(session, email)
    click.echo(f"{email} can no longer sign in or decide. What they decided stays.")


@moderator.command("list")
@as_json
def moderator_list(as_json: bool) -> None:
    """List the moderators."""
    with opened() as site, site.database.reading_sessions() as session:
        found = [
            {"email": email, "name": who.name, "role": who.role, "active": who.active}
            for email, who in accounts.everyone(session)
        ]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    for each in [] if as_json else found:
        click.echo(f"{each['email']}  {each['name']}  {each['role']}{'' if each['active'] else '  (not active)'}")
    if not found and not as_json:
        click.echo("There is no moderator.")


@click.group()
def token() -> None:
    """Bearer tokens for the API."""


@token.command("issue")
@click.argument("email")
@click.option("--scope", type=click.Choice(accounts.SCOPES), default="full", show_default=True)
@click.option("--days", type=click.IntRange(1, 3650), default=accounts.TOKEN_DAYS, show_default=True)
def token_issue(email: str, scope: str, days: int) -> None:
    """Make a token for EMAIL and print it, alone on the last line. It is shown this once."""
    with opened() as site, site.database.sessions.begin() as session:
        made = accounts.issue_token(session, email, scope=scope, days=days)
    click.echo(f"A {scope} token for {email}, for {_counted(days, 'day')}; it is not shown again:", err=True)
    click.echo(made)


@token.command("list")
@as_json
def token_list(as_json: bool) -> None:
    """List the tokens, never their values."""
    with opened() as site, site.database.reading_sessions() as session:
        found = [
            {
                "id": each.id,
                "email": each.email,
                "scope": each.scope,
                "expires_at": each.expires_at.isoformat(),
                "revoked": each.revoked_at is not None,
            }
            for each in accounts.tokens(session)
        ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    for each in [] if as_json else found:
        state = "revoked" if each["revoked"] else f"until {each['expires_at']}"
        click.echo(f"{each['id']}  {each['email']}  {each['scope']}  {state}")
    if not found and not as_json:
        click.echo("There is no token.")


@token.command("revoke")
@click.argument("token_id", type=int)
def token_revoke(token_id: int) -> None:
    """End the token TOKEN_ID."""
    with opened() as site, site.database.sessions.begin() as session:
        accounts.revoke_token(session, token_id)
    click.echo(f"Token {token_id} is revoked.")


@click.command("queue")
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]))
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@as_json
def queue_command(kind: str | None, limit: int, as_json: bool) -> None:
    """Show what awaits a verdict, oldest first."""
    with opened() as site, site.database.reading_sessions() as session:
        found = reviews.waiting(session, reviews.Wanted(kind=Kind(kind) if kind else None), limit=limit)
    if as_json:
        told = [
            {
                "id": each.pending.id,
                "kind": each.pending.kind.value,
                "author": each.pending.author,
                "body": each.pending.body,
                "digest": each.pending.digest,
                "essay": each.essay.slug,
                "submitted_at": each.pending.submitted_at.isoformat(),
            }
            for each in found
        ]
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for each in found:
        opening = on_a_terminal(words.opening(each.pending.body, 70))
        click.echo(f"{each.pending.id}  {each.pending.kind.value}  {on_a_terminal(each.pending.author)}: {opening}")
    if not found:
        click.echo("Nothing waits.")


@click.command("approve")
@click.argument("submission_id", type=int)
@click.option("--as", "email", required=True, help="Who approves.")
@click.option("--digest", help="Of the words you saw; on a terminal you are shown them and asked.")
def approve_command(submission_id: int, email: str, digest: str | None) -> None:
    """Approve SUBMISSION_ID verbatim."""
    with opened() as site:
        seen = _seen(site, submission_id, digest, "Approve these words?")
        with site.database.reading_sessions() as session:
            who = accounts.moderator_of(session, email)
        reviews.approve(site, submission_id, moderator=who, seen=seen)
    click.echo(f"Submission {submission_id} is approved.")


@click.command("reject")
@click.argument("submission_id", type=int)
@click.option("--as", "email", required=True, help="Who rejects.")
@click.option("--digest", help="Of the words you saw; on a terminal you are shown them and asked.")
@click.option("--code", required=True, help="A published reason code.")
@click.option("--reason", help="For the desk; a veto needs 40 characters.")
@click.option("--told", help="For the author.")
def reject_command(
    submission_id: int, email: str, digest: str | None, code: str, reason: str | None, told: str | None
) -> None:
    """Reject the comment SUBMISSION_ID, or propose or confirm the veto of a model's words."""
    with opened() as site:
        seen = _seen(site, submission_id, digest, "Reject these words?")
        with site.database.reading_sessions() as session:
            who = accounts.moderator_of(session, email)
        came_to = reviews.reject(site, submission_id, moderator=who, seen=seen, code=code, reason=reason, told=told)
    proposed = came_to is Rejection.PROPOSED
    click.echo(
        f"A veto of submission {submission_id} is proposed; a second moderator must agree."
        if proposed
        else f"Submission {submission_id} is rejected."
    )


@click.command("stats")
@as_json
def stats_command(as_json: bool) -> None:
    """Count letters, answers and calls, and what they cost, since the beginning."""
    with opened() as site, site.database.reading_sessions() as session:
        found = tally.tally(session)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    for what, counts in (("Letters", found.letters), ("Answers", found.answers), ("Asked for", found.requests)):
        told = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count)
        click.echo(f"{what}: {told or 'none'}.")
    click.echo(f"Calls: {found.calls}, for ${found.cost_usd:.2f}; {found.calls_without_cost} of them without a price.")


@click.command("export")
@click.argument("email", required=False)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file, for its owner only; else the screen."
)
def export_command(email: str | None, output: Path | None) -> None:
    """Write all that is kept about the address EMAIL, as JSON: its letters, what became of them, its mail.

    The links in it open the letters. Give it to nobody but the owner of the address.

    Without EMAIL: every word that is posted, essays, letters and answers, one a line as JSON. It is all public.
    """
    with opened() as site:
        if email is None:
            with site.database.reading_sessions() as session:
                lines = [json.dumps(each, ensure_ascii=False) for each in tally.posted(session)]
            _write_out("\n".join(lines), output, f"{_counted(len(lines), 'text')}")
            return
        try:
            found = belongings.export(site, email)
        except erasure.NotAnAddress:
            raise click.ClickException("This cannot be an e-mail address. Nothing was written.") from None
    if found is None:
        raise click.ClickException("Nothing is kept about this address, or it was erased.")
    letters = _counted(len(found["letters"]), "letter")
    _write_out(json.dumps(found, indent=2, ensure_ascii=False), output, letters)


@click.command("erase")
@click.argument("email", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="List what would be erased, and erase nothing.")
@click.option("--again", is_flag=True, help="Instead of EMAIL: what was erased before, and a backup brought back.")
@as_json
def erase_command(email: str | None, yes: bool, dry_run: bool, again: bool, as_json: bool) -> None:
    """Erase every letter that came with the address EMAIL, its answer, what was made of either, and the address."""
    if again == (email is not None):
        raise click.UsageError("Give either EMAIL or --again.")
    with opened() as site:
        if email is None:
            _erase_again(site, dry_run, as_json)
            return
        found = belongings.to_erase(site, email)
        if dry_run:
            _tell_what_goes(found, as_json)
            return
        if found is None:
            if as_json:
                click.echo(json.dumps({"letters": 0, "answers": 0, "to_reread": 0, "off_the_disk": True}))
            else:
                click.echo("No letter came with this address, or they are erased. Nothing was changed.")
            return
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"This erases {_counted(len(found), 'letter')} for good. Say so with --yes.")
            click.confirm(f"Erase {_counted(len(found), 'letter')} with their answers, for good?", abort=True)
        erased = erasure.Erased(0, 0, 0)
        with click.progressbar(found, label="Erasing", file=sys.stderr) as letters:
            for letter in letters:
                erased += erasure.erase_comment(site, letter.public_id)
        with site.database.sessions.begin() as session:
            address = erasure.address_of(session, site.keys, email)
            if address is not None:
                erasure.forget_address(session, address.id)
        erased_before.keep_or_say(site)
        off_the_disk = erasure.clean_disk(site, at_once=True)
    if as_json:
        click.echo(json.dumps({**asdict(erased), "off_the_disk": off_the_disk}))
        return
    click.echo(f"Erased: {_counted(erased.letters, 'letter')}, {_counted(erased.answers, 'answer')}.")
    _tell_what_is_left(erased, off_the_disk)


@click.group("ledger")
def ledger_group() -> None:
    """The account of what was decided."""


@ledger_group.command("verify")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A file of checkpoints that somebody kept, such as what /api/v1/ledger/checkpoint gave.",
)
@click.option("--public-key", help="In hex: the key they are signed with, if SECRET_KEY was changed since.")
@click.option("--checkpoint", "new_checkpoint", is_flag=True, help="If all holds, make a new checkpoint now.")
@as_json
def ledger_verify(against: tuple[Path, ...], public_key: str | None, new_checkpoint: bool, as_json: bool) -> None:
    """Recompute the chain, every digest and every row's entry, compare the checkpoints; name the first break."""
    with opened() as site:
        with site.database.still_sessions() as session:
            holding, broken = ledger.verify(session)
        compared, unlike = checkpoints.compare(site, against=against, key=public_key)
        # A chain that breaks says where; a checkpoint, only between which entries.
        broken = broken or unlike
        made = checkpoints.keep(site, at_once=True) if new_checkpoint and broken is None else None
    if as_json:
        found = {"where": broken.where, "what": broken.what} if broken else None
        click.echo(json.dumps({"entries": holding, "checkpoints": compared, "broken": found}))
    elif broken is None:
        click.echo(
            f"The ledger holds: {_counted(holding, 'entry', 'entries')}, every digest and every row as recorded."
        )
        fits = "the one checkpoint there is" if compared == 1 else f"all {compared} checkpoints"
        click.echo(f"It fits {fits}." if compared else "There was no checkpoint to compare it with.")
        if made is not None:
            click.echo(f"A checkpoint of entry {made.number} was made. Keep it elsewhere:\n{made.line()}", nl=False)
    else:
        click.echo(f"Broken: {broken.where} {broken.what}.", err=True)
    if broken is not None:
        sys.exit(1)


@click.command("replay")
@click.argument("call", metavar="ID")
@as_json
def replay_command(call: str, as_json: bool) -> None:
    """Put the request of a call to the model together from the records, and hold it against what was sent.

    ID is a call's number, or the public id of an answer or a letter: of a letter, the call that brought its answer,
    else the newest. Exits with 1 if the two are not equal though no words were taken back or erased.
    """
    with opened() as site:
        found = replaying.replay(site, call)
    if as_json:
        click.echo(json.dumps(found.as_record(), indent=2))
    else:
        if found.whole.request_text is not None:
            click.echo(found.whole.request_text)
        click.echo(found.whole.sentence, err=not found.holds)
    if not found.holds:
        sys.exit(1)


COMMANDS = [
    migrate_command,
    voice,
    essay,
    moderator,
    token,
    queue_command,
    approve_command,
    reject_command,
    ledger_group,
    stats_command,
    export_command,
    erase_command,
    replay_command,
]


def _seen(site: Site, submission_id: int, digest: str | None, question: str) -> Digest:
    """Return the digest of the words that were seen; on a terminal, show them first. Raises a `Refused`."""
    if digest is not None:
        return Digest(digest)
    with site.database.reading_sessions() as session:
        context = reviews.one(session, submission_id)
    if context is None:
        raise errors.NoSuchSubmission(submission_id)
    if not sys.stdin.isatty():
        raise click.UsageError("Say which words you saw, with --digest. `emeritus queue --json` shows it.")
    click.echo(f"{on_a_terminal(context.pending.author)}:\n\n{on_a_terminal(context.pending.body)}\n")
    click.confirm(question, abort=True)
    return context.pending.digest


def _write_out(whole: str, output: Path | None, what: str) -> None:
    """Write to the screen, or into a new file: never over what is there, nor through a link that somebody laid."""
    if output is None:
        click.echo(whole)
        return
    try:
        with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{whole}\n")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}. Nothing was written.") from None
    click.echo(f"{what} in {output}.", err=True)


def _tell_what_goes(found: Sequence[belongings.ToErase] | None, as_json: bool) -> None:
    if as_json:
        told = [{**asdict(letter), "sent_at": letter.sent_at.isoformat()} for letter in found or ()]
        click.echo(json.dumps({"address": found is not None, "letters": told}, indent=2))
        return
    for letter in found or ():
        answered = ", with its answer" if letter.has_answer else ""
        click.echo(f"{letter.public_id}  {letter.sent_at:%Y-%m-%d}  {letter.essay}  {letter.state.value}{answered}")
    if found is None:
        click.echo("No letter came with this address, or they are erased.")
    else:
        click.echo(f"{_counted(len(found), 'letter')} and the address would be erased. Nothing was changed.")


def _erase_again(site: Site, dry_run: bool, as_json: bool) -> None:
    """Erase what was erased before and stands here again; nobody is asked, for that was done the first time."""
    try:
        found = erased_before.compare(site)
        done = None if dry_run else erased_before.erase_again(site)
    except OSError as error:
        raise click.ClickException(f"{erased_before.where(site)} cannot be read: {error.strerror}.") from None
    numbers = {"listed": found.listed, "elsewhere": found.elsewhere, "unreadable": found.unreadable}
    if done is None:
        left = found.left
        if as_json:
            click.echo(json.dumps({"letters": list(left.letters), "addresses": len(left.addresses), **numbers}))
            return
        for public_id in left.letters:
            click.echo(public_id)
        _tell_of_the_list(found)
        letters = _counted(len(left.letters), "letter")
        addresses = _counted(len(left.addresses), "address", "addresses")
        click.echo(f"{letters} and {addresses} would be erased again. Nothing was changed.")
        return
    erased_before.keep_or_say(site)
    off_the_disk = erasure.clean_disk(site, at_once=True, put_back=True)
    if as_json:
        told = {"addresses": done.addresses, "off_the_disk": off_the_disk, **asdict(done.erased), **numbers}
        click.echo(json.dumps(told))
        return
    _tell_of_the_list(found)
    letters, answers = _counted(done.erased.letters, "letter"), _counted(done.erased.answers, "answer")
    if done.erased.letters or done.addresses:
        click.echo(f"Erased again: {letters}, {answers}, {_counted(done.addresses, 'address', 'addresses')}.")
    else:
        click.echo("Nothing that was erased stands here with its words.")
    _tell_what_is_left(done.erased, off_the_disk)


def _tell_of_the_list(found: erased_before.Compared) -> None:
    click.echo(f"The list tells of {_counted(found.listed, 'erasure')}; {found.elsewhere} of them of what is not here.")
    if found.unreadable:
        lines = _counted(found.unreadable, "line")
        click.echo(f"{lines} cannot be read, or came under another SECRET_KEY: nothing is done for them.", err=True)


def _tell_what_is_left(erased: erasure.Erased, off_the_disk: bool) -> None:
    if erased.to_reread:
        click.echo(f"{_counted(erased.to_reread, 'other answer')} that may repeat them: on the desk, to be read again.")
    click.echo(
        "The database's files hold nothing of them any more."
        if off_the_disk
        else "The database's files are still being read; the sweep writes them anew as soon as they are not."
    )


def _written(given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the options that were given; `none` is written as nothing."""
    return {option: "" if value == "none" else value for option, value in given.items() if value is not None}


def _as_told(price: Price) -> str:
    whence = "by prices of its own" if price.since is None else f"since {price.since} ({price.source})"
    return f"${float(price.input):g} in and ${float(price.output):g} out, for a million tokens, {whence}"


def _tell_whose_key(voice: Voice) -> None:
    if voice.base_url is not None and voice.key_name is None:
        click.echo("Its server is sent the key in ANTHROPIC_API_KEY; name one of its own with --key-name.", err=True)


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or f'{one}s'}"


def _password() -> str:
    """Return a password: asked for on a terminal, else, and for an empty answer, made."""
    if sys.stdin.isatty():
        given: str = click.prompt(
            "Password (empty: one is made for you)", default="", hide_input=True, show_default=False
        )
        if given and len(given) < 12:
            raise click.UsageError("A password needs 12 characters at least.")
        if given:
            return given
    return accounts.new_password()


def _tell_password(email: str, password: str) -> None:
    click.echo(f"{email} can sign in at the desk. Password, shown this once: {password}")


def on_a_terminal(text: str) -> str:
    """Return *text* without what could command a terminal."""
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8 text.") from None
