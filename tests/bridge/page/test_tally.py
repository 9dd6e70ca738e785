"""How much there is of everything: on both databases the same, and what is erased still counts."""

from ground.house import House

from bridge.letter import erasure
from bridge.letter.comments import Letter, change_comment
from bridge.page import tally


def test_counts_letters_answers_and_requests_by_state(any_house: House) -> None:
    any_house.exchange("Posted.", "An answer.")
    gone, _ = any_house.exchange("Erased.", "An answer.")
    erasure.erase_comment(any_house.site, gone.public_id)
    changed = any_house.send("As it was.")
    change_comment(any_house.site, changed.public_id, Letter("Reader", "As it is."))
    any_house.reject(any_house.send("Rejected.").public_id, code="spam")
    with any_house.site.database.reading_sessions() as session:
        found = tally.tally(session)
    assert {state: count for state, count in found.letters.items() if count} == {
        "pending": 1,
        "approved": 1,
        "rejected": 1,
        "withdrawn": 1,
    }
    assert {state: count for state, count in found.answers.items() if count} == {"approved": 1, "withdrawn": 1}
    assert (found.requests["answered"], found.requests["withdrawn"], found.calls) == (1, 1, 2)
