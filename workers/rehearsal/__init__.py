"""The rehearsal: a stand-in for the Messages API, for running and testing without a key.

It speaks the protocol of the Messages API as far as our workers use it, answers with words that say they are rehearsed,
and fails on demand in every way the real one has failed. It decides nothing about words; no model is involved.
"""

from workers.rehearsal.account import Spent, Usage
from workers.rehearsal.calls import Call, Calls
from workers.rehearsal.faults import Fault, UnknownFault, parse_fault, parse_shares
from workers.rehearsal.server import REHEARSAL_HEADER, PortTaken, Rehearsal, create_app, running, serve
from workers.rehearsal.settings import MalformedSetting, RehearsalSettings

__all__ = [
    "REHEARSAL_HEADER",
    "Call",
    "Calls",
    "Fault",
    "MalformedSetting",
    "PortTaken",
    "Rehearsal",
    "RehearsalSettings",
    "Spent",
    "UnknownFault",
    "Usage",
    "create_app",
    "parse_fault",
    "parse_shares",
    "running",
    "serve",
]
