"""Where a passage is taken and shown: the API, the desk, the thread, and a letter's own page."""

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, bearer, text, tree

from bridge.page.metadata import AI_SOURCE
from bridge.text.passages import Passage

COMMENTS = f"/api/v1/essays/{SLUG}/comments"
ABOUT = {"block": 0, "words": "rest well"}
TOLD = ABOUT | {"stand_in": False, "ai_generated": True, "digitalSourceType": AI_SOURCE}


def test_takes_a_passage_by_the_api_and_gives_it_in_the_thread(client: FlaskClient, house: House) -> None:
    sent = client.post(COMMENTS, json={"author": "Reader", "body": "Why well?", "passage": ABOUT})
    assert sent.status_code == 202
    house.approve(sent.json["id"])
    (told,) = client.get(f"/api/v1/essays/{SLUG}/thread").json["comments"]
    assert told["passage"] == TOLD


@pytest.mark.parametrize(
    "passage",
    [
        {"block": 0, "words": "rest ill"},
        {"block": 1, "words": "rest well"},
        {"block": -1, "words": "rest well"},
        {"block": 2**40, "words": "rest well"},
        {"block": 0},
        {"block": 0, "words": ""},
        {"block": 0, "words": "rest\nwell"},
        {"block": "0", "words": "rest well"},
    ],
)
def test_refuses_what_does_not_stand_there(client: FlaskClient, house: House, passage: dict[str, object]) -> None:
    before = house.contents()
    refused = client.post(COMMENTS, json={"author": "Reader", "body": "Why?", "passage": passage})
    assert refused.status_code == 422
    assert refused.json["errors"][0]["pointer"].startswith("/passage")
    assert house.contents() == before


def test_tells_moderators_which_words_a_letter_is_about(desk: FlaskClient, house: House) -> None:
    sent = house.send("Why well?", passage=Passage(0, "rest well"))
    one = desk.get(f"/desk/submissions/{house.submission(sent.public_id)}")
    for page in (one, desk.get("/desk/letters")):
        assert "The letter is about these words of the essay: rest well" in text(page)


def test_tells_them_too_beside_its_answer(desk: FlaskClient, house: House) -> None:
    house.post("Why well?", passage=Passage(0, "rest well"))
    (reply,) = house.answer()
    page = desk.get(f"/desk/submissions/{house.submission(reply)}")
    assert [each.text for each in tree(page).iter("blockquote")] == ["rest well"]


def test_tells_programs_that_moderate(client: FlaskClient, house: House) -> None:
    house.send("Why well?", passage=Passage(0, "rest well"))
    house.send("And the whole?")
    about, whole = client.get("/api/v1/queue", headers=bearer(house.tokens.reader)).json["submissions"]
    assert (about["context"]["passage"], whole["context"]["passage"]) == (TOLD, None)


def test_leads_from_a_letters_own_page_to_the_passage_and_to_its_place(client: FlaskClient, house: House) -> None:
    sent = house.post("Why well?", passage=Passage(0, "rest well"))
    page = tree(client.get(f"/comments/{sent.public_id}"))
    links = {"".join(each.itertext()): each.attrib for each in page.iter("a")}
    assert links["rest well"]["href"] == f"#{links['The passage in the essay']['id']}"
    assert links["The passage in the essay"]["href"] == f"/essays/{SLUG}#b0"
    assert links["See it in the correspondence"]["href"] == f"/essays/{SLUG}#letter-{sent.public_id}"


def test_leads_to_the_page_on_which_the_letter_stands(
    client: FlaskClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.essay.thread.LETTERS_A_PAGE", 1)
    house.post("The first.")
    sent = house.post("The second.")
    page = client.get(f"/comments/{sent.public_id}")
    assert f'href="/essays/{SLUG}?page=2#letter-{sent.public_id}"' in page.text
    assert f'id="letter-{sent.public_id}"' in client.get(f"/essays/{SLUG}?page=2").text


def test_has_a_block_for_each_of_the_essays_own(client: FlaskClient) -> None:
    page = tree(client.get(f"/essays/{SLUG}"))
    (block,) = [each for each in page.iter("div") if each.get("id") == "b0"]
    (link,) = block.iter("a")
    assert link.get("href") == f"/essays/{SLUG}/write?about=0"
    assert "I rest well." in text(client.get(str(link.get("href"))))
