"""What passes the vault's doors: kinds, verdicts, and words, `Pending` for the desk and `Released` for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

Digest = NewType("Digest", str)
"""SHA-256 in 64 lower-case hex digits: the commitment to a submission's words (`moderation.digest`)."""

SubmissionId = NewType("SubmissionId", int)
ModeratorId = NewType("ModeratorId", int)
ProposalId = NewType("ProposalId", int)


class Kind(StrEnum):
    """Whose words a submission holds."""

    ESSAY = "essay"
    COMMENT = "comment"
    REPLY = "reply"

    @property
    def by_model(self) -> bool:
        """Whether a model wrote it, so that rejecting it is a veto."""
        return self is not Kind.COMMENT


class Verdict(StrEnum):
    """The two things a decision can say."""

    APPROVE = "approve"
    REJECT = "reject"


class Rejection(StrEnum):
    """What a rejection came to: a decision, or the first half of a veto."""

    DECIDED = "decided"
    PROPOSED = "proposed"


class Tray(StrEnum):
    """Where on the desk a submission waits. Every tray is screened; none expires."""

    MAIN = "main"
    LIKELY_SPAM = "likely_spam"


class AccessEvent(StrEnum):
    """What the ledger tells of who may decide: sign-ins, and each change of an account's powers."""

    SIGNED_IN = "signed_in"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  (What happened, not a password.)
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    INVITED = "invited"
    ROLE_CHANGED = "role_changed"
    DEACTIVATED = "deactivated"
    TOKEN_ISSUED = "token_issued"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    SIGNED_OUT_EVERYWHERE = "signed_out_everywhere"
    RULE_CHANGED = "rule_changed"


class State(StrEnum):
    """How a submission stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An open proposal to veto a model's words."""

    id: ProposalId
    moderator: ModeratorId
    code: str
    reason: str | None
    proposed_at: datetime
    lapses_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """Who wants a second reader for pending words, and since when."""

    moderator: ModeratorId
    held_at: datetime


@dataclass(frozen=True, slots=True)
class Appealed:
    """That pending words were rejected before, and come again because their author appealed."""

    rejected: SubmissionId
    rejected_by: ModeratorId
    rejected_at: datetime
    code: str
    told: str | None
    words: str | None
    """What the author says for them."""
    appealed_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """Words that await a verdict. Only the desk and their own author may see them."""

    id: SubmissionId
    kind: Kind
    nonce: str
    author: str
    body: str
    digest: Digest
    in_answer_to: Digest | None
    submitted_at: datetime
    tray: Tray
    proposal: Proposal | None
    held: Held | None = None
    appealed: Appealed | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Words that were not approved, for their own author alone."""

    id: SubmissionId
    kind: Kind
    author: str
    body: str
    digest: Digest
    submitted_at: datetime


@dataclass(frozen=True, slots=True)
class Released:
    """Words that a moderator approved, checked against the digest that was approved. Public."""

    id: SubmissionId
    kind: Kind
    nonce: str
    author: str
    body: str
    digest: Digest
    in_answer_to: Digest | None
    submitted_at: datetime
    approved_at: datetime
    approved_by: ModeratorId


@dataclass(frozen=True, slots=True)
class Standing:
    """How one submission stands, without its words."""

    id: SubmissionId
    kind: Kind
    digest: Digest
    state: State
    submitted_at: datetime
    decided_at: datetime | None
    reason_code: str | None
    told: str | None
    withdrawn_at: datetime | None
    was_released: bool
    decided_by: ModeratorId | None = None
    erased_at: datetime | None = None
    withdrawn_by: str | None = None
    """ "author", "operator" or "law"."""
    withdrawal_code: str | None = None


@dataclass(frozen=True, slots=True)
class Moderator:
    """A person who decides."""

    id: ModeratorId
    name: str
    role: str
    active: bool
