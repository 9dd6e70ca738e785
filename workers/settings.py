"""What only workers may know: the model's key, and how it is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import Field, create_model, field_validator
from pydantic_settings import BaseSettings

from bridge.settings import Settings
from workers.rehearsal import RehearsalSettings

API = "https://api.anthropic.com"
_OF_MODELS = ("ANTHROPIC_", "AWS_", "GOOGLE_", "CLOUDSDK_", "CLOUD_ML_")
_WORKERS_OWN = (*_OF_MODELS, "DESK_WEBHOOK_SECRET", "SCREENING_SECRET")
"""How the names begin of what only workers may know."""


class WorkerSettings(Settings):
    """The settings of a process that asks the model, or starts one that does."""

    anthropic_api_key: str | None = Field(
        None, repr=False, description="The key of the Messages API. Without it, the rehearsal answers."
    )
    anthropic_base_url: str | None = Field(None, description="Where the Messages API is. Anthropic's unless set.")
    calls_at_once: int = Field(8, ge=1, le=256, description="The most calls that one worker makes at once.")
    gathering_seconds: float = Field(
        2.0,
        ge=0,
        le=60,
        description="How long approvals under one essay are gathered, so that their calls share one beginning.",
    )
    rehearsal_latency: float = Field(0.5, ge=0, le=600, description="Seconds before the rehearsal answers.")
    rehearsal_faults: str = Field("", description="Shares of faults, such as `status=429;retry-after=1:0.1,drop:0.02`.")
    rehearsal_limits: str = Field("", description="What it allows a minute, such as `requests=50,tokens=20000`.")

    desk_webhook_secret: str | None = Field(
        None, repr=False, min_length=16, description="Signs what goes to `DESK_WEBHOOK_URL`; 16 characters at least."
    )
    desk_webhook_private: Literal["on", "off"] = Field(
        "off", description="`on`: `DESK_WEBHOOK_URL` may be in a private network, on any port."
    )
    screening_secret: str | None = Field(
        None, repr=False, min_length=16, description="Signs what goes to `SCREENING_URL`; 16 characters at least."
    )
    screening_private: Literal["on", "off"] = Field(
        "off", description="`on`: `SCREENING_URL` may be in a private network, on any port."
    )

    rehearsal_url: str | None = Field(None, description="Where a rehearsal answers already; `serve` sets it.")

    @field_validator("anthropic_api_key", "anthropic_base_url")
    @classmethod
    def _stripped(cls, value: str | None) -> str | None:
        # The SDK takes "" for a URL, and a line feed behind a key for a lost connection.
        return (value or "").strip() or None

    @field_validator("anthropic_base_url")
    @classmethod
    def _without_version(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return mended(value)

    @property
    def rehearses(self) -> bool:
        """Whether the bundled stand-in answers, for want of a key."""
        return self.anthropic_api_key is None

    @property
    def rehearsal(self) -> RehearsalSettings:
        """How the rehearsal behaves. Raises `workers.rehearsal.MalformedSetting`."""
        return RehearsalSettings(self.rehearsal_latency, self.rehearsal_faults, self.rehearsal_limits)


def mended(address: str) -> str:
    """Return the address of an API as the SDK wants it: it adds /v1 itself, and twice is a 404."""
    return address.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def variable(name: str) -> str | None:
    """Return a variable that is no setting, such as one voice's key: from where settings come, None where empty."""
    env_file = os.environ.get("EMERITUS_ENV_FILE", ".env")
    found = _settings_of_one(name)(_env_file=env_file)  # type: ignore[call-arg]  # pydantic-settings' own argument.
    return str(getattr(found, "value") or "").strip() or None  # noqa: B009  (The model is made at run time.)


class _Variables(BaseSettings):
    # So that the environment and the file are read by the rule by which settings are.
    model_config = Settings.model_config


@cache
def _settings_of_one(name: str) -> type[_Variables]:
    value: Any = (str | None, Field(None, validation_alias=name, repr=False))
    return create_model("OneVariable", __base__=_Variables, value=value)


def without_keys(environment: Mapping[str, str], *, of_models_only: bool = False) -> dict[str, str]:
    """Return an environment for a part that is no worker: without keys of models, and without what signs.

    With *of_models_only*, for a worker that asks no model: it signs what it sends.
    """
    taken = _OF_MODELS if of_models_only else _WORKERS_OWN
    return {name: value for name, value in environment.items() if not name.upper().startswith(taken)}
