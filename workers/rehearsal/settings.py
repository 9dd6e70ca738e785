"""What can be set about the rehearsal, checked when it is set."""

import math
from dataclasses import dataclass

from workers.rehearsal.faults import UnknownFault, parse_shares
from workers.rehearsal.limits import DEFAULT_PER_MINUTE, UnknownLimit, parse_limits


class MalformedSetting(ValueError):
    """Raised when a setting of the rehearsal cannot be understood; names the setting."""

    def __init__(self, setting: str, fact: str) -> None:
        super().__init__(f"{setting} cannot be understood: {fact}")
        self.setting = setting


@dataclass(frozen=True, slots=True)
class RehearsalSettings:
    """The settings REHEARSAL_LATENCY (seconds), REHEARSAL_FAULTS and REHEARSAL_LIMITS, as they were written.

    Raises `MalformedSetting` at once when one of them cannot be understood.
    """

    latency: float = 0.5
    faults: str = ""
    limits: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.latency) and self.latency >= 0):
            raise MalformedSetting("REHEARSAL_LATENCY", f"{self.latency} is not a number of seconds")
        try:
            parse_shares(self.faults)
        except UnknownFault as fault:
            raise MalformedSetting("REHEARSAL_FAULTS", str(fault)) from fault
        try:
            parse_limits(self.limits, DEFAULT_PER_MINUTE)
        except UnknownLimit as limit:
            raise MalformedSetting("REHEARSAL_LIMITS", str(limit)) from limit
