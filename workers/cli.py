"""The `emeritus` command: the site's own commands, and those that run or ask something."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import nullcontext
from importlib.metadata import version

import click

from bridge import cli as site_commands
from bridge import migrate, server, settings
from bridge.site import open_site
from workers import demo as demonstration
from workers import rehearsal as stand_in
from workers import rehearsing, serve, supervisor, valkey
from workers.settings import WorkerSettings


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
def worker_command() -> None:
    """Ask the model for what waits. The only part that is given its key."""
    asked = settings.load(WorkerSettings)
    with site_commands.opened():
        pass
    needs_one = asked.rehearses and asked.rehearsal_url is None
    with rehearsing.started() if needs_one else nullcontext(asked.rehearsal_url) as url:
        # Imported here: the SDK takes a second to load, which no other command should wait for.
        from workers import jobs, worker

        # The SDK asks a proxy for loopback addresses too, unless it is told not to.
        os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1", "localhost")))
        jobs.ask_at(url)
        worker.work(asked.redis)


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


def _tell_addresses(asked: WorkerSettings) -> None:
    click.echo(f"Readers      {asked.address}/")
    click.echo(f"The desk     {asked.address}/desk/")
    if asked.rehearses:
        click.echo("The model    no ANTHROPIC_API_KEY: a rehearsal answers, and its replies are marked")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
