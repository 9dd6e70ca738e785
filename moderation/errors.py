"""The gate's refusals: one class for each fact, carrying it, never the words themselves.

A `sentence` of a class is what an author may be told: the site's catalogues have it in other languages, without the
`parts` that are put into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from moderation.types import Digest, State, SubmissionId, Verdict


class Refused(Exception):
    """Something the gate will not do. Nothing was changed."""


class NoSuchSubmission(Refused):
    """Raised when no submission has this id."""

    def __init__(self, submission_id: int) -> None:
        super().__init__("There is no such submission.")
        self.submission_id = submission_id


class UnknownModerator(Refused):
    """Raised when the person who acts is not, or no longer, a moderator."""

    def __init__(self, moderator_id: int) -> None:
        super().__init__("This is not the account of an active moderator. Nothing was changed.")
        self.moderator_id = moderator_id


class NotTheWordsStored(Refused):
    """Raised when the digest a moderator saw is not that of the words that are stored."""

    def __init__(self, submission_id: SubmissionId, stored: Digest) -> None:
        super().__init__("The words you saw are not the words that are stored. Nothing was changed. Read it again.")
        self.submission_id = submission_id
        self.stored = stored


class AlreadyDecided(Refused):
    """Raised when the submission has its one decision."""

    def __init__(self, submission_id: SubmissionId, verdict: Verdict | None, moderator: str | None) -> None:
        who = moderator or "Someone"
        what = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected", None: "decided"}[verdict]
        super().__init__(f"{who} has already {what} this one. Nothing was changed.")
        self.submission_id = submission_id
        self.verdict = verdict
        self.moderator = moderator


class NoLongerPending(Refused):
    """Raised when the submission left the desk without a decision: superseded or withdrawn."""

    def __init__(self, submission_id: SubmissionId, state: State, superseded_by: SubmissionId | None = None) -> None:
        how = "changed by their author" if state is State.SUPERSEDED else "taken back"
        super().__init__(f"These words were {how} and no longer await a verdict. Nothing was changed.")
        self.submission_id = submission_id
        self.state = state
        self.superseded_by = superseded_by


class SecondModeratorNeeded(Refused):
    """Raised when the proposer of a veto tries to confirm it alone."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__("You proposed this veto; it takes a second moderator to agree. Nothing was changed.")
        self.submission_id = submission_id


class AdminNeeded(Refused):
    """Raised when a moderator who is no admin would begin to take released words down."""

    def __init__(self) -> None:
        super().__init__("Only an admin can begin to take posted words down. Nothing was changed.")


class AnotherModeratorNeeded(Refused):
    """Raised when who rejected a comment would decide on its author's appeal, or read their own approval again."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__("You decided on these words before; now it takes another moderator. Nothing was changed.")
        self.submission_id = submission_id


class CannotAppeal(Refused):
    """Raised, as one of its five kinds, when there is nothing to appeal against, or no longer, or not again."""

    sentence: ClassVar[str]

    def __init__(self, submission_id: SubmissionId, **parts: int) -> None:
        super().__init__(self.sentence % parts)
        self.submission_id = submission_id
        self.parts = parts


class AppealedBefore(CannotAppeal):
    """Raised when the one appeal for a comment was made."""

    sentence = "There is one appeal for a letter, and it was made. Nothing was changed."


class NotRejected(CannotAppeal):
    """Raised when the words are no comment's, or were not rejected."""

    sentence = "Only a letter that was not posted can be appealed for. Nothing was changed."


class TakenBackBefore(CannotAppeal):
    """Raised when its author took a rejected comment back."""

    sentence = "This letter was taken back. Nothing was changed."


class TooLateToAppeal(CannotAppeal):
    """Raised when the days are over within which an appeal could be made."""

    sentence = "An appeal can be made within %(days)s days of the decision, and they are over. Nothing was changed."


class AppealStays(CannotAppeal):
    """Raised when an author would change the words of an appeal."""

    sentence = "An appeal is for the words that were rejected, so they stay as they were. Nothing was changed."


class NotReleased(Refused):
    """Raised when words would be taken down that are not public, or no longer."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__("These words are not posted, or no longer. Nothing was changed.")
        self.submission_id = submission_id


class NoOpenProposal(Refused):
    """Raised when a second moderator answers a proposal that lapsed or was answered already."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__("Nobody proposes to take these words down, or no longer. Nothing was changed.")
        self.submission_id = submission_id


class NothingToReread(Refused):
    """Raised when a second reading was given already, or was never asked for."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__("These words await no second reading, or no longer. Nothing was changed.")
        self.submission_id = submission_id


class UnknownReasonCode(Refused):
    """Raised when the code is not on the published list for this kind of words."""

    def __init__(self, code: str, valid: Iterable[str]) -> None:
        self.valid = tuple(valid)
        super().__init__(f"There is no such reason code here. The codes are: {', '.join(self.valid)}.")
        self.code = code


class ReasonTooShort(Refused):
    """Raised when words are required for a rejection and there are too few of them."""

    def __init__(self, needed: int) -> None:
        least = f"at least {needed} characters" if needed > 1 else "some words"
        super().__init__(f"Please give the reason in {least}. Nothing was changed.")
        self.needed = needed


class ReasonTooLong(Refused):
    """Raised when a reason is longer than anyone will read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"Please keep the reason within {most} characters. Nothing was changed.")
        self.most = most


class NothingToAnswer(Refused):
    """Raised when words answer something that is not released, or something of the wrong kind."""

    sentence: ClassVar[str] = "What this answers is not public, or no longer."

    def __init__(self, answered: int | None) -> None:
        super().__init__(self.sentence)
        self.answered = answered


class NotWhatWasReviewed(Exception):
    """Raised when stored words no longer match the digest that was approved. Never shown as words."""

    def __init__(self, submission_id: int) -> None:
        super().__init__(f"submission {submission_id}: the stored words are not those of its digest")
        self.submission_id = submission_id
