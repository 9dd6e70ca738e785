"""The frame's pages, the scripts and the numbers that other sites load, without a browser."""

import json
import re

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, site_over, text, tree

from bridge.app import create_app
from bridge.essay import embedding, essays
from bridge.letter import comments
from bridge.page.assets import FOLDER
from moderation import gate

ROOT_TOKENS = re.compile(r"--[a-z-]+: #[0-9a-f]{6};")
FORM = "application/x-www-form-urlencoded"
PATHS = (f"/essays/{SLUG}/embed", f"/essays/{SLUG}/embed/write")


def ancestors(client: FlaskClient, path: str) -> str:
    response = client.get(path)
    (found,) = re.findall(r"frame-ancestors ([^;]+)", response.headers["Content-Security-Policy"])
    # The older header knows no list: it would forbid what the policy allows.
    assert ("X-Frame-Options" in response.headers) == (found == "'none'")
    return str(found)


@pytest.mark.parametrize("path", PATHS)
def test_lets_the_essays_own_parents_frame_its_correspondence(house: House, client: FlaskClient, path: str) -> None:
    assert ancestors(client, path) == "'none'"
    embedding.allow(house.site, SLUG, "https://a.example https://b.example:8443")
    assert ancestors(client, path) == "https://a.example https://b.example:8443"
    embedding.allow(house.site, SLUG, "")
    assert ancestors(client, path) == "'none'"


@pytest.mark.parametrize("path", PATHS)
def test_lets_the_sites_own_list_frame_every_essay(house: House, path: str) -> None:
    open_site = site_over(house.site.database, house.site.settings.data, embed_parents="https://a.example")
    assert ancestors(create_app(open_site).test_client(), path) == "https://a.example"


def test_lets_nobody_frame_anything_else(house: House, client: FlaskClient) -> None:
    embedding.allow(house.site, SLUG, "https://a.example")
    house.essay("second")
    sent, reply = house.exchange()
    for path in ("/", f"/essays/{SLUG}", f"/essays/{SLUG}/write", f"/comments/{sent.public_id}", f"/replies/{reply}"):
        assert ancestors(client, path) == "'none'"
    for path in (f"/letters/{sent.token}", "/desk/sign-in", "/about", "/essays/second/embed", "/essays/no/embed"):
        assert ancestors(client, path) == "'none'"


def test_sends_a_letter_from_a_frame_without_reading_or_setting_a_cookie(house: House, client: FlaskClient) -> None:
    client.set_cookie("__Host-author", "x" * 43, secure=True)
    token = client.get(f"/essays/{SLUG}/embed/form-token").get_json()["token"]
    letter = {"author": "Reader", "body": "From a blog.", "token": token}
    response = client.post(f"/essays/{SLUG}/embed/comments", data=letter)
    assert response.status_code == 303
    assert "Set-Cookie" not in response.headers
    arrived = client.get(response.headers["Location"])
    assert arrived.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in arrived.headers


def test_tells_a_refusal_in_the_frame_that_it_was_asked_in(house: House, client: FlaskClient) -> None:
    embedding.allow(house.site, SLUG, "https://a.example")
    response = client.post(f"/essays/{SLUG}/embed/comments", data=b"author=%ff", content_type=FORM)
    assert response.status_code == 400
    assert '<base target="_blank">' in response.text
    assert "frame-ancestors https://a.example;" in response.headers["Content-Security-Policy"]
    assert "<base" not in client.post(f"/essays/{SLUG}/comments", data=b"author=%ff", content_type=FORM).text


@pytest.mark.parametrize("closed", [False, True])
def test_does_not_scroll_the_page_around_a_frame_to_a_refusal(house: House, client: FlaskClient, closed: bool) -> None:
    token = client.get(f"/essays/{SLUG}/embed/form-token").get_json()["token"]
    letter = {"author": "Reader", "body": "From a blog.", "email": "reader@", "token": token}
    if closed:
        essays.close(house.site, SLUG, "The author rests.")
    framed, whole = (client.post(f"/essays/{SLUG}{each}/comments", data=letter).text for each in ("/embed", ""))
    assert 'role="alert"' in framed
    # A browser scrolls to what has the focus, through every frame around it.
    assert " autofocus" not in framed
    assert " autofocus" in whole


@pytest.mark.parametrize(("language", "told"), [("en", "No letter is posted yet."), ("de", "Noch ist kein Brief")])
@pytest.mark.parametrize("slug", ["unknown", "waiting"])
def test_tells_in_one_sentence_that_an_essay_is_not_there(house: House, slug: str, language: str, told: str) -> None:
    house.essay("waiting", released=False)
    client = create_app(
        site_over(house.site.database, house.site.settings.data, embed_parents="https://a.example")
    ).test_client()
    for path in (f"/essays/{slug}/embed", f"/essays/{slug}/embed/write"):
        response = client.get(f"{path}?lang={language}")
        assert response.status_code == 404
        assert "frame-ancestors https://a.example;" in response.headers["Content-Security-Policy"]
        (said,) = tree(response).iter("body")
        assert text(response).count(told) == 1
        assert [each.tag for each in said.iter()] == ["body", "main", "p"]
        assert "404" not in text(response)
    assert "Not found" in text(client.get(f"/essays/{slug}"))


def test_tells_in_one_sentence_what_else_is_refused(house: House, client: FlaskClient) -> None:
    unknown = client.get(f"/essays/{SLUG}/embed?page=9")
    assert (unknown.status_code, text(unknown)) == (404, "Emeritus There is nothing posted at this address.")
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, essays.published(session, SLUG).essay.submission_id, by="operator")
    gone = client.get(f"/essays/{SLUG}/embed/write")
    assert gone.status_code == 410
    assert "An essay stood here." in text(gone)
    assert [each.tag for body in tree(gone).iter("body") for each in body.iter()] == ["body", "main", "p"]


def test_marks_the_frame_for_people_and_keeps_it_out_of_indexes(house: House, client: FlaskClient) -> None:
    house.exchange()
    page = client.get(f"/essays/{SLUG}/embed").text
    assert '<meta name="robots" content="noindex">' in page
    assert f'<link rel="canonical" href="http://localhost:8000/essays/{SLUG}">' in page
    assert page.index('<span class="label ai" translate="no">AI</span>') < page.index("<article")
    assert 'class="masthead"' not in page


def test_leaves_the_frame_for_every_link_that_does_not_say_otherwise(house: House, client: FlaskClient) -> None:
    house.exchange()
    page = client.get(f"/essays/{SLUG}/embed").text
    assert page.index('<base target="_blank">') < page.index("<a ")
    stay = re.findall(r'<(?:a|form) [^>]*target="_self"[^>]*>', page)
    assert stay
    for each in stay:
        assert "/embed" in each or 'href="#' in each
    for form in re.findall(r"<form [^>]*>", page):
        assert 'target="_self"' in form


def test_leads_to_the_page_of_a_letter(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange()
    for public_id in (sent.public_id, reply, "0" * 32):
        response = client.get(f"/essays/{SLUG}/embed/at/{public_id}?lang=de")
        assert (response.status_code, response.headers["Location"]) == (302, f"/essays/{SLUG}/embed?lang=de")
    assert client.get(f"/essays/no-such/embed/at/{reply}").status_code == 404


@pytest.mark.parametrize("path", ["/embed.js", "/counts.js"])
def test_gives_other_sites_its_scripts(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.mimetype == "text/javascript"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    again = client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.text) == (304, "")
    assert again.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_says_the_tags_two_sentences_in_every_language_of_the_site(house: House, client: FlaskClient) -> None:
    assert says(client) == {"en", "de", "ar"}
    for languages, codes in (("de", {"de", "en"}), ("en ar", {"en", "ar"})):
        of_some = site_over(house.site.database, house.site.settings.data, languages=languages)
        assert says(create_app(of_some).test_client()) == codes


def says(client: FlaskClient) -> set[str]:
    (line,) = re.findall(r"const SAYS = (\{.*\});", client.get("/embed.js").text)
    told = json.loads(line)
    assert all(len(each) == 2 and all(each) for each in told.values())
    return set(told)


def test_tells_any_site_how_many_letters_there_are(house: House, client: FlaskClient) -> None:
    house.exchange()
    house.post("And you?")
    house.essay("second")
    response = client.get(f"/api/v1/counts?essays={SLUG},second,no-such,")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Cache-Control"] == "public, max-age=60"
    assert "Set-Cookie" not in response.headers
    assert response.get_json()["counts"] == {
        SLUG: {"letters": 2, "answered": 1, "text": "2 letters"},
        "second": {"letters": 0, "answered": 0, "text": "no letters yet"},
    }
    comments.take_back(house.site, house.post("No.").public_id)
    assert client.get(f"/api/v1/counts?essays={SLUG}").get_json()["counts"][SLUG]["letters"] == 2


def test_counts_a_hundred_essays_at_most(client: FlaskClient) -> None:
    assert client.get(f"/api/v1/counts?essays={','.join(['x'] * 100)}").status_code == 200
    for query in (f"essays={','.join(['x'] * 101)}", f"essays={'x' * 13_000}", "", "essays=%00"):
        response = client.get(f"/api/v1/counts?{query}")
        assert response.status_code in {404, 422}
        assert response.mimetype == "application/problem+json"


def test_has_the_same_colours_in_a_frame_as_on_the_page() -> None:
    style = (FOLDER / "emeritus.css").read_text()
    light, dark = (
        re.search(pattern, style, re.DOTALL | re.MULTILINE)
        for pattern in (r"^:root \{(.*?)\n\}", r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}")
    )
    for theme, page in (("light", light), ("dark", dark)):
        frame = re.search(rf':root\[data-theme="{theme}"\] \{{(.*?)\}}', style, re.DOTALL)
        assert page is not None
        assert frame is not None
        assert f"color-scheme: {theme};" in frame[1]
        assert ROOT_TOKENS.findall(frame[1]) == ROOT_TOKENS.findall(page[1])
