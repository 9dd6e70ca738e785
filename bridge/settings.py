"""What an operator can set, from the environment or a `.env` file (another by `EMERITUS_ENV_FILE`)."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SAMPLES = ("change", "secret", "example", "password", "development", "0123456789", "abcdefghij")
"""What a key that somebody typed, or left as a README had it, is made of; a random one has none of them."""
_LEAST_KEY = 32


class SettingsRefused(Exception):
    """Raised when a setting cannot be used. Says which, and why, in one sentence; never the value."""


class Settings(BaseSettings):
    """The settings of every part. What only workers may know is not among them (`workers.settings`)."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8", extra="ignore", hide_input_in_errors=True, frozen=True, env_ignore_empty=True
    )

    database_url: str | None = Field(
        None, description="Where the records are. SQLite in the data folder, or `postgresql+psycopg://...`."
    )
    database_owner_url: str | None = Field(
        None, description="PostgreSQL: the login that owns the tables and runs `migrate`. `DATABASE_URL` unless set."
    )
    redis_url: str | None = Field(
        None, description="Redis or Valkey for nudges and counters. The embedded one unless set."
    )
    emeritus_data: Path = Field(Path("data"), description="The data folder: database, keys, embedded Valkey.")
    port: int = Field(8000, ge=1, le=65535, description="The port on 127.0.0.1 that `serve` and `web` answer on.")
    site_url: str | None = Field(None, description="The address readers use. `http://localhost:PORT` unless set.")
    secret_key: str | None = Field(
        None, description="Signs links and sessions; 32 characters at least. Generated in the data folder unless set."
    )
    trusted_proxies: int = Field(0, ge=0, le=9, description="How many proxies in front may tell a reader's address.")
    veto_quorum: Literal[1, 2] = Field(2, description="How many moderators a veto takes.")
    veto_lapse: int = Field(7, ge=1, le=365, description="Days after which a veto proposal lapses.")

    @field_validator("database_url", "database_owner_url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if url.startswith(("postgresql://", "postgres://")):
            url = "postgresql+psycopg://" + url.split("://", 1)[1]
        if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return url

    @field_validator("site_url")
    @classmethod
    def _an_origin(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not re.fullmatch(r"https?://[^\s/?#@\\]+/?", url):
            raise ValueError("must be a scheme and a host, such as https://letters.example.org")
        return url.rstrip("/")

    @field_validator("secret_key")
    @classmethod
    def _a_real_key(cls, key: str | None) -> str | None:
        if key is not None and not _is_random(key):
            raise ValueError(f"is too short or a sample; it needs {_LEAST_KEY} random characters, or leave it unset")
        return key

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.emeritus_data.absolute()

    @property
    def database(self) -> str:
        """The URL the site itself connects with."""
        return self.database_url or f"sqlite:///{self.data / 'emeritus.db'}"

    @property
    def database_owner(self) -> str:
        """The URL that migrations connect with."""
        return self.database_owner_url or self.database

    @property
    def address(self) -> str:
        """The address readers use, without a trailing slash."""
        return self.site_url or f"http://localhost:{self.port}"

    @property
    def lapse(self) -> timedelta:
        """How long a veto proposal waits for a second moderator."""
        return timedelta(days=self.veto_lapse)

    @property
    def redis(self) -> str:
        """The URL of Redis: as set, else the embedded Valkey's; before that ever ran, one that nobody answers."""
        if self.redis_url:
            return self.redis_url
        told = self.data / "valkey.url"
        return told.read_text().strip() if told.exists() else f"unix://{self.data / 'valkey.sock'}"

    @cached_property
    def key(self) -> str:
        """The secret key: as set, else the data folder's, made on first use and readable by its owner only."""
        if self.secret_key:
            return self.secret_key
        kept = self.data / "secret.key"
        if not kept.exists():
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            _keep_whole(kept, secrets.token_urlsafe(48) + "\n")
        key = kept.read_text().strip()
        if not _is_random(key):
            raise SettingsRefused(f"{kept}: holds no key; put yours back, or remove the file and a new one is made.")
        return key


def _is_random(key: str) -> bool:
    """Whether *key* looks random, which is all that can be told."""
    return len(key) >= _LEAST_KEY and len(set(key)) >= 8 and not any(sample in key.lower() for sample in _SAMPLES)


def _keep_whole(where: Path, text: str) -> None:
    """Make the file *where*, for its owner only, with all of *text* or not at all; one that is there stays."""
    made, unfinished = tempfile.mkstemp(dir=where.parent, prefix=where.name)  # It makes files with mode 0600.
    try:
        with os.fdopen(made, "w") as file:
            file.write(text)
        # Of two processes that start at once one links its file, and the other finds that one whole.
        with suppress(FileExistsError):
            os.link(unfinished, where)
    finally:
        os.unlink(unfinished)


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **overrides: Any) -> S:
    """Read the settings of *kind*; *overrides* win. Raises `SettingsRefused` with one sentence a person can act on."""
    env_file = os.environ.get("EMERITUS_ENV_FILE", ".env")
    try:
        return kind(_env_file=env_file, **overrides)  # type: ignore[call-arg]  # pydantic-settings' own argument.
    except ValidationError as refused:
        first = refused.errors()[0]
        name = str(first["loc"][0]).upper()
        raise SettingsRefused(f"{name}: {first['msg'].removeprefix('Value error, ')}.") from None
