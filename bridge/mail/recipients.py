"""Whom the site's software tells anything: what `/privacy` says of it, taken from what is set."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from bridge.records import Endpoint
from bridge.settings import Settings
from bridge.voice import voices

_NAMES = {Endpoint.ANTHROPIC: "Anthropic", Endpoint.BEDROCK: "Amazon Bedrock", Endpoint.VERTEX: "Google Vertex AI"}


@dataclass(frozen=True, slots=True)
class Recipients:
    """Whom the software tells anything, by name where they have one."""

    models: list[str]
    """Who runs the models that letters are sent to once they are posted; a host where it is a compatible server."""
    akismet: bool
    """Whether Akismet is sent each new letter."""
    screening: bool
    """Whether a service of the operator's is sent each new letter."""
    mail: bool
    """Whether a mail server takes the mail; else each becomes a file."""


def of(session: Session, settings: Settings) -> Recipients:
    """Return whom this site tells anything."""
    models = [
        urlsplit(voice.base_url).hostname or "" if voice.base_url is not None else _NAMES[Endpoint(voice.endpoint)]
        for voice in voices.everyone(session)
    ]
    return Recipients(
        models=sorted(set(models)),
        akismet=settings.akismet_key is not None,
        screening=settings.screening_url is not None,
        mail=settings.smtp_url is not None,
    )
