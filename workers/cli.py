"""The `emeritus` command: the site's own commands, and those that run or ask something."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version

import click

from bridge import cli as site_commands
from bridge import migrate, queues, server, settings
from bridge.essay.imported import Outcome, Reported
from bridge.essay.importing import Entry, FeedRefused
from bridge.site import open_site
from workers import demo as demonstration
from workers import rehearsal as stand_in
from workers import rehearsing, serve, supervisor, valkey
from workers.settings import WorkerSettings

_BOTH = [queues.POST, queues.QUEUE]
"""What a worker that does everything works off, mail first."""


class Emeritus(site_commands.OneSentence):
    """Everything that `emeritus` refuses is one sentence."""

    refusals = (
        *site_commands.OneSentence.refusals,
        supervisor.CannotServe,
        valkey.NoValkey,
        valkey.SocketFolderUnsafe,
        stand_in.MalformedSetting,
        stand_in.PortTaken,
        rehearsing.RehearsalSilent,
        FeedRefused,
    )


@click.group(cls=Emeritus)
@click.version_option(version("emeritus"))
def main() -> None:
    """Let a retired language model answer the readers of its essays, in its own words."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # That a part came up or went is no news: who serves reads its addresses, and what went wrong.
    for name in ("httpx2", "alembic", "rq", "workers.rehearsal"):
        logging.getLogger(name).setLevel(logging.WARNING)


for command in site_commands.COMMANDS:
    main.add_command(command)


@site_commands.essay.command("import")
@click.argument("feed")
@click.option("--voice", "voice_name", required=True, help="Whose words they are: a model's, and nobody else's.")
@click.option("--parents", default="", help="Sites that may frame their letters: origins, with blanks between them.")
@click.option("--dry-run", is_flag=True, help="Say what would be added, and change nothing.")
@site_commands.as_json
def essay_import(feed: str, voice_name: str, parents: str, dry_run: bool, as_json: bool) -> None:
    """Add the essays in FEED, an RSS or Atom file or its http(s) address: they wait at the gate for a person.

    Each keeps the address it was first published at, and one that is here already is left. Exits with 1 if any was
    refused, or if there are more than are added at once.
    """
    # Imported here: no other command needs what calls outside.
    from workers import bringing

    try:
        allowed = settings.origins(parents)
    except ValueError as wrong:
        raise click.UsageError(f"--parents {wrong}.") from None

    def progress(entries: Sequence[Entry]) -> Iterator[Entry]:
        with click.progressbar(entries, label="Reading", file=sys.stderr) as shown:
            yield from shown

    with site_commands.opened() as site:
        brought = bringing.bring_in(site, feed, voice=voice_name, parents=allowed, dry_run=dry_run, progress=progress)
    if as_json:
        entries = [asdict(each) for each in brought.reported]
        click.echo(json.dumps({"dry_run": dry_run, "entries": entries, "left": brought.left}, indent=2))
    for each in [] if as_json else brought.reported:
        click.echo(site_commands.on_a_terminal(_told(each, voice_name, dry_run)))
    if brought.left and not as_json:
        click.echo(f"{brought.left} more are new. Run it again for them.", err=True)
    if brought.left or any(each.outcome is Outcome.REFUSED for each in brought.reported):
        sys.exit(1)


@main.command("serve")
def serve_command() -> None:
    """Serve every part: records, queue, worker, cron and web. Ctrl-C ends them all."""
    asked = settings.load(WorkerSettings)
    with serve.ground(asked) as lock:
        with site_commands.opened():
            pass  # It refuses a database that is missing or not as it should be, before anything is started.
        sys.exit(serve.serve(asked, lock, when_ready=lambda: _tell_addresses(asked)))


@main.command("demo")
@click.option("--remove", is_flag=True, help="Take the demonstration's essays back instead.")
def demo_command(remove: bool) -> None:
    """Serve a demonstration: a stand-in voice with three essays, made on first start and kept."""
    asked = settings.load(WorkerSettings)
    if remove:
        with site_commands.opened() as site:
            click.echo(f"{demonstration.remove(site)} essays of the demonstration are taken back.")
        return
    with serve.ground(asked) as lock:
        migrate.migrate(asked)
        with site_commands.opened() as site:
            first = demonstration.seed(site)

        def tell() -> None:
            _tell_addresses(asked)
            if first is not None:
                click.echo(f"Sign in      {first.email}  {first.password}   (shown this once)")
            else:
                click.echo("Sign in      as before; `emeritus moderator reset EMAIL` makes a new password")

        sys.exit(serve.serve(asked, lock, when_ready=tell))


@main.command("web")
def web_command() -> None:
    """Serve the pages and the API only."""
    asked = settings.load(settings.Settings)
    supervisor.port_free(server.HOST, asked.port)
    with site_commands.opened():
        pass
    server.serve(asked)


@main.command("worker")
@click.option(
    "--queue",
    type=click.Choice(["sittings", "post"]),
    help="Do only what asks the model, or only the rest: mail, pages, the sweep. Both, unless it is said.",
)
def worker_command(queue: str | None) -> None:
    """Ask the model for what waits, and do what else waits. The only part that is given the model's key."""
    asked = settings.load(WorkerSettings)
    with site_commands.opened():
        pass
    needs_one = queue != "post" and asked.rehearses and asked.rehearsal_url is None
    with rehearsing.started() if needs_one else nullcontext(asked.rehearsal_url) as url:
        # Imported here: the SDK takes a second to load, which no other command should wait for.
        from workers import jobs, worker

        # The SDK asks a proxy for loopback addresses too, unless it is told not to.
        os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1", "localhost")))
        jobs.ask_at(url)
        worker.work(asked.redis, {"sittings": [queues.QUEUE], "post": [queues.POST]}.get(queue or "", _BOTH))


@main.command("cron")
def cron_command() -> None:
    """Have the sweep done every minute."""
    from workers import worker

    worker.keep_time(settings.load(settings.Settings).redis)


@main.command("rehearsal")
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--parent", type=int, help="End when the process of this number is no longer our parent.")
def rehearsal_command(port: int, parent: int | None) -> None:
    """Serve the stand-in for the Messages API alone, on 127.0.0.1."""
    if parent is not None:
        rehearsing.end_with(parent)
    stand_in.serve(settings.load(WorkerSettings).rehearsal, port=port)


@main.command("doctor")
@site_commands.as_json
def doctor_command(as_json: bool) -> None:
    """Look at everything the site leans on, and say what to do about what is not well."""
    from workers import doctor as examination

    asked = settings.load(WorkerSettings)
    found = examination.examine(open_site(asked), asked)
    if as_json:
        click.echo(json.dumps([{"what": f.what, "state": f.state, "told": f.told} for f in found], indent=2))
    for finding in [] if as_json else found:
        click.echo(f"{finding.state:7} {finding.what}: {finding.told}")
    if any(finding.state == "broken" for finding in found):
        sys.exit(1)


def _told(each: Reported, voice: str, dry_run: bool) -> str:
    title = " ".join(each.title.split())[:100] or each.link
    if each.outcome is Outcome.REFUSED:
        return f"refused        {title}: {each.why}"
    if each.outcome is Outcome.THERE_ALREADY:
        return f"there already  {title}"
    what = "would add" if dry_run else "added"
    where = f"/essays/{each.slug}" + ("" if dry_run else f", submission {each.submission_id}")
    notes = [*each.left_out]
    if each.author and each.author.casefold() != voice.casefold():
        notes.append(f"the feed says it is by {each.author}")
    return f"{what:13}  {title}: {where}" + (f" ({'; '.join(notes)})" if notes else "")


def _tell_addresses(asked: WorkerSettings) -> None:
    click.echo(f"Readers      {asked.address}/")
    click.echo(f"The desk     {asked.address}/desk/")
    if asked.rehearses:
        click.echo("The model    no ANTHROPIC_API_KEY: a rehearsal answers, and its replies are marked")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
