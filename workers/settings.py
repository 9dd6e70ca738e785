"""What only workers may know: the model's key, and how it is asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bridge.settings import Settings
from workers.rehearsal import RehearsalSettings

API = "https://api.anthropic.com"


class WorkerSettings(Settings):
    """The settings of a process that asks the model, or starts one that does."""

    anthropic_api_key: str | None = Field(
        None, repr=False, description="The key of the Messages API. Without it, the rehearsal answers."
    )
    anthropic_base_url: str | None = Field(None, description="Where the Messages API is. Anthropic's unless set.")
    calls_at_once: int = Field(8, ge=1, le=256, description="The most calls that one worker makes at once.")
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
        # The SDK adds /v1 itself; twice is a 404.
        return value.rstrip("/").removesuffix("/v1")

    @property
    def rehearses(self) -> bool:
        """Whether the bundled stand-in answers, for want of a key."""
        return self.anthropic_api_key is None

    @property
    def rehearsal(self) -> RehearsalSettings:
        """How the rehearsal behaves. Raises `workers.rehearsal.MalformedSetting`."""
        return RehearsalSettings(self.rehearsal_latency, self.rehearsal_faults, self.rehearsal_limits)
