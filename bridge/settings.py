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
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SAMPLES = ("change", "secret", "example", "password", "development", "0123456789", "abcdefghij")
"""What a key that somebody typed, or left as a README had it, is made of; a random one has none of them."""
_LEAST_KEY = 32
_MAY_APPEAL_FOR = 20
"""Days: `moderation.appeals.WITHIN`."""


LANGUAGES = ("en", "de", "ar")
"""What there are catalogues for (`bridge/locales`); English is what the templates say."""
_ORIGIN = re.compile(r"(https?)://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::([1-9][0-9]{0,4}))?/?")


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
    smtp_url: str | None = Field(
        None,
        repr=False,
        description="The mail server, `smtp://USER:PASSWORD@HOST:PORT` or `smtps://...`. "
        "Without it each mail becomes a file in `mail/` in the data folder.",
    )
    mail_from: str | None = Field(
        None, description="The address that mail is from. `emeritus@HOST` unless set, with the host of `SITE_URL`."
    )
    desk_webhook_url: str | None = Field(
        None, repr=False, description="Where Slack and the like are told what waits on the desk."
    )
    akismet_key: str | None = Field(
        None,
        repr=False,
        pattern=r"^[0-9A-Za-z]{1,64}$",
        description="Akismet's key. Each new letter is then sent to Akismet: its words, the name shown, the essay's "
        "address and `SITE_URL`; never the reader's e-mail address, nor their IP address, for which 127.0.0.1 stands.",
    )
    screening_url: str | None = Field(
        None,
        repr=False,
        description="A service of yours that is sent each new letter as JSON, `id`, `author`, `body` and `essay`, and "
        'answers `{"spam": true, "why": "..."}`; `why` may be left out.',
    )

    languages: str = Field(
        "en de ar",
        description="The languages that readers may choose between, the site's own first, with blanks between them.",
    )
    embed_parents: str | None = Field(
        None,
        description="The sites that may frame every essay's correspondence, as origins with blanks between them: "
        "`https://blog.example.org`. An essay may have more of its own: `essay add --parents`.",
    )
    rate_limits: Literal["on", "off"] = Field(
        "on",
        description="`off`, for load tests: lifts every limit on readers, the rule on same words, and proof of work. "
        "Budgets stay.",
    )
    privacy_text: Path | None = Field(
        None, description="A Markdown file with the operator's own words for `/privacy`: who keeps what, and why."
    )
    imprint_text: Path | None = Field(
        None, description="A Markdown file with the operator's imprint, shown at the end of `/privacy`."
    )
    contact: str | None = Field(
        None,
        description="Where readers reach a person: an e-mail address, or an `https://` address. "
        "Shown on `/privacy` and wherever a reader is refused.",
    )
    keep_rejected: int = Field(
        90,
        ge=0,
        le=3650,
        description="Days after which the words of a rejected letter are erased, 20 at least, for so long its author "
        "may appeal; 0: never.",
    )

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, names: str) -> str:
        given = names.split()
        if not given or len(set(given)) != len(given) or not set(given) <= set(LANGUAGES):
            raise ValueError(f"must be some of {' '.join(LANGUAGES)}, each once, with blanks between them")
        return " ".join(given)

    @field_validator("embed_parents")
    @classmethod
    def _some_origins(cls, given: str | None) -> str | None:
        return None if given is None else " ".join(origins(given))

    @field_validator("contact")
    @classmethod
    def _a_way_to_a_person(cls, given: str | None) -> str | None:
        if given is None:
            return None
        if not re.fullmatch(r"https://[^\s\"'<>#@\\]+|[A-Za-z0-9.!#$%&*+/=?^_{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}", given):
            raise ValueError("must be an e-mail address or an https:// address")
        return given

    @field_validator("keep_rejected")
    @classmethod
    def _as_long_as_appeals_may_come(cls, days: int) -> int:
        if 0 < days < _MAY_APPEAL_FOR:
            raise ValueError(f"must be 0, for never, or {_MAY_APPEAL_FOR} and more: for so long an author may appeal")
        return days

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

    @field_validator("smtp_url")
    @classmethod
    def _a_mail_server(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url.strip())
            whole = parts.scheme in {"smtp", "smtps"} and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must be like smtp://USER:PASSWORD@HOST:PORT or smtps://..., the password percent-encoded")
        return url.strip()

    @field_validator("mail_from")
    @classmethod
    def _one_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        # The domain of a house's own network has no dot and is as good.
        if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}", address) or "=?" in address:
            raise ValueError("must be one plain address, such as letters@example.org")
        return address

    @field_validator("desk_webhook_url", "screening_url")
    @classmethod
    def _a_web_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not re.fullmatch(r"https?://[^\s/?#@\\]+(/[^\s#\\]*)?", url):
            raise ValueError("must be an https:// or http:// address without a user name in it")
        return url

    @property
    def spoken(self) -> tuple[str, ...]:
        """The languages that readers may choose between, the site's own first."""
        return tuple(self.languages.split())

    @property
    def screens(self) -> bool:
        """Whether letters are told to a service that the operator chose."""
        return self.akismet_key is not None or self.screening_url is not None

    @property
    def sender(self) -> str:
        """The address that mail is from."""
        return self.mail_from or f"emeritus@{urlsplit(self.address).hostname}"

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
        try:
            return (self.data / "valkey.url").read_text().strip()
        except FileNotFoundError:
            return f"unix://{self.data / 'valkey.sock'}"
        except OSError as error:
            raise _unusable(self.data, error) from None

    @cached_property
    def key(self) -> str:
        """The secret key: as set, else the data folder's, made on first use and readable by its owner only."""
        if self.secret_key:
            return self.secret_key
        kept = self.data / "secret.key"
        try:
            if not kept.exists():
                self.make_data()
                _keep_whole(kept, secrets.token_urlsafe(48) + "\n")
            key = kept.read_text().strip()
        except OSError as error:
            raise _unusable(self.data, error) from None
        if not _is_random(key):
            raise SettingsRefused(f"{kept}: holds no key; put yours back, or remove the file and a new one is made.")
        return key

    def make_data(self) -> None:
        """Make the data folder, for this user alone, if it is absent. Raises `SettingsRefused`."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.data, error) from None


def _unusable(data: Path, error: OSError) -> SettingsRefused:
    reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
    return SettingsRefused(f"EMERITUS_DATA: {data} cannot be the data folder ({reason}); set it to another.")


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


def origins(given: str) -> list[str]:
    """Return the origins in *given*, each once and in one form. Raises ValueError, worded for a person."""
    found = []
    for each in given.split():
        parts = _ORIGIN.fullmatch(each)
        if parts is None or int(parts[3] or 1) > 65535:
            raise ValueError("must be origins such as https://blog.example.org, with blanks between them")
        found.append(f"{parts[1]}://{parts[2].lower()}" + (f":{parts[3]}" if parts[3] else ""))
    return list(dict.fromkeys(found))


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **overrides: Any) -> S:
    """Read the settings of *kind*; *overrides* win. Raises `SettingsRefused` with one sentence a person can act on."""
    env_file = os.environ.get("EMERITUS_ENV_FILE", ".env")
    if os.environ.get("EMERITUS_ENV_FILE") and not _may_be_read(Path(env_file).expanduser()):
        raise SettingsRefused(f"EMERITUS_ENV_FILE: there is no file {env_file} that can be read.")
    try:
        return kind(_env_file=env_file, **overrides)  # type: ignore[call-arg]  # pydantic-settings' own argument.
    except ValidationError as refused:
        first = refused.errors()[0]
        name = str(first["loc"][0]).upper()
        raise SettingsRefused(f"{name}: {first['msg'].removeprefix('Value error, ')}.") from None


def _may_be_read(file: Path) -> bool:
    """Whether there is such a file, of whatever kind: `/dev/null` has no settings, and a pipe may have some."""
    return os.access(file, os.R_OK) and not file.is_dir()
