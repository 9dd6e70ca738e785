"""A model that is asked in batches as well: it keeps them in a folder, as the API does, whoever of its clients dies."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.voice.model import Answer, BatchStanding, Trouble, read
from ground.workshop import Says, ScriptedModel, message, quoted
from moderation.base import now

GONE = Trouble("There is no such batch.")
GONE.status = 404


class ScriptedBatches(ScriptedModel):
    """Says what it is told, live as well; in a batch, what *brings* has for a letter's words, or dreams of letters."""

    batches = True

    def __init__(self, folder: Path, *says: Says, brings: dict[str, Says] | None = None, **more: Any) -> None:
        super().__init__(*says, **more)
        self.folder = folder
        self.brings = brings or {}
        self.folder.mkdir(exist_ok=True)
        self.host = "scripted.example"
        self.ended = True
        """Whether its batches have ended."""
        self.refuses: Trouble | None = None
        """What creating a batch fails with, before there is one."""
        self.breaks_off: Trouble | None = None
        """The same, when there is one already."""
        self.fails: Trouble | None = None
        """What looking at batches fails with."""
        self.fails_to_delete: Trouble | None = None
        self.forgets: set[str] = set()
        """The names of requests that it has no results for."""
        self.times = 1
        """How often each result comes in one file."""
        self.cut_after: int | None = None
        """After so many lines a file is cut off."""
        self.clock: Callable[[], datetime] = now
        """Its own."""
        self.hidden = False
        """Whether its list does not show what it has yet."""
        self.looked = 0
        self.read: list[str] = []
        """The batches whose results were read."""
        self.cancelled: list[str] = []
        self.deleted: list[str] = []

    def origin(self, api_version: str | None) -> Any:
        """Say that it is nobody's."""
        return replace(super().origin(api_version), host=self.host)

    # As `voice.model.BatchModel`.

    async def create_batch(
        self,
        entries: Sequence[tuple[str, dict[str, Any]]],
        *,
        api_version: str | None,
        extra_body: dict[str, Any] | None,
    ) -> str:
        """Keep a batch."""
        if self.refuses is not None:
            raise self.refuses
        remote_id = self.keep([(name, {**request, **(extra_body or {})}) for name, request in entries])
        if self.breaks_off is not None:
            raise self.breaks_off
        return remote_id

    async def batch(self, remote_id: str) -> BatchStanding:
        """Tell how one stands."""
        self.looked += 1
        if self.fails is not None:
            raise self.fails
        return self._standing_kept(remote_id)

    async def batch_results(self, remote_id: str) -> AsyncIterator[tuple[str, Answer | Trouble]]:
        """Yield them in another order."""
        self.read.append(remote_id)
        self._standing_kept(remote_id)
        lines = [each for each in self.entries(remote_id)[::-1] if each[0] not in self.forgets] * self.times
        for number, (name, request) in enumerate(lines):
            if number == self.cut_after:
                raise Trouble("The file was cut off.")
            yield name, self._result(request)
        if self.cut_after == len(lines):
            raise Trouble("The file was cut off.")

    async def recent_batches(self, since: datetime) -> Sequence[BatchStanding]:
        """List them, the newest first."""
        if self.fails is not None:
            raise self.fails
        standings = [
            self._standing(self.folder / remote_id) for remote_id in self.kept()[::-1] if remote_id not in self.deleted
        ]
        return [each for each in standings if each.created_at >= since and not self.hidden]

    async def cancel_batch(self, remote_id: str) -> None:
        """Note it; what is not answered yet then comes back unanswered."""
        self.cancelled.append(remote_id)

    async def delete_batch(self, remote_id: str) -> None:
        """Have it no more; its file stays for tests to look at."""
        if self.fails_to_delete is not None:
            raise self.fails_to_delete
        self._standing_kept(remote_id)
        self.deleted.append(remote_id)

    # For tests.

    def keep(self, entries: Sequence[tuple[str, dict[str, Any]]], *, created_at: datetime | None = None) -> str:
        """Put a batch there, as a client does, or somebody else; return its name."""
        remote_id = f"msgbatch_{len(list(self.folder.iterdir())):03}"
        file = self.folder / remote_id
        file.write_text(json.dumps([(created_at or self.clock()).isoformat(), entries]))
        return remote_id

    def kept(self) -> list[str]:
        """Return the names of the batches it has, the oldest first."""
        return sorted(file.name for file in self.folder.iterdir() if file.stat().st_size)

    def entries(self, remote_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the requests in a batch."""
        return [(name, request) for name, request in json.loads(self._file(remote_id).read_text())[1]]

    def letters(self, remote_id: str) -> list[str]:
        """Return the words of the letters in a batch."""
        return [_letter(request) for _, request in self.entries(remote_id)]

    def lose(self, remote_id: str) -> None:
        """Have no such batch any more."""
        self._file(remote_id).write_text("")

    def _file(self, remote_id: str) -> Path:
        file = self.folder / remote_id
        if not file.exists() or not file.stat().st_size:
            raise GONE
        return file

    def _standing_kept(self, remote_id: str) -> BatchStanding:
        if remote_id in self.deleted:
            raise GONE
        return self._standing(self._file(remote_id))

    def _standing(self, file: Path) -> BatchStanding:
        created_at, entries = json.loads(file.read_text())
        return BatchStanding(file.name, self.ended, datetime.fromisoformat(created_at), len(entries))

    def _result(self, request: dict[str, Any]) -> Answer | Trouble:
        said = self.brings.get(_letter(request), message("I dream of letters."))
        if isinstance(said, Trouble):
            return said
        assert isinstance(said, dict)
        return read(said, asked=said["model"], request_id=None, rehearsed=False)


def _letter(request: dict[str, Any]) -> str:
    body = quoted(request)[-1][2]["body"]
    assert isinstance(body, str)
    return body


def numbered(name: str | None) -> str:
    """Return what a request is called in a batch without what only its batch has."""
    return (name or "").rpartition("-")[0]
