"""Who may do what, address by address: an endpoint that is added is tested here without being named."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import (
    ADA,
    BEN,
    CLEO,
    PASSWORD,
    REASON,
    SLUG,
    House,
    Lived,
    bearer,
    desk_of,
    form,
    live,
    sign_in,
    tree,
)
from sqlalchemy import update
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.people import accounts
from bridge.records import ApiToken
from bridge.web.access import SAFE, Access, declared
from moderation import moderators
from moderation.base import now

TOKENS = {Access.BEARER, Access.DECIDER}


def routes(app: Flask, *access: Access, unsafe: bool) -> Iterator[tuple[Rule, str]]:
    """Yield each route that declares one of *access*, with its method; HEAD and OPTIONS go the way of GET."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if declared(app, rule.endpoint) in access and (method not in SAFE) == unsafe:
                yield rule, method


def token_of(client: FlaskClient) -> str:
    """Return the CSRF token of this client's session."""
    return form(client.get("/desk/"), "/sign-out").fields["csrf_token"]


def verdict(lived: Lived, house: House) -> dict[str, str]:
    return {"digest": house.digest(lived.pending), "reason_code": "spam", "reason": REASON}


# Default deny (R7)


def test_declares_who_each_endpoint_answers(app: Flask) -> None:
    assert {endpoint for endpoint in app.view_functions if declared(app, endpoint) is None} == set()


def test_answers_nobody_at_an_endpoint_that_declares_nothing(app: Flask) -> None:
    app.add_url_rule("/forgotten", "forgotten", lambda: "words")
    assert app.test_client().get("/forgotten").status_code == 403
    assert desk_of(app).get("/forgotten").status_code == 403


def test_has_no_use_for_the_pages_of_libraries(app: Flask, desk: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        if declared(app, rule.endpoint) is Access.NOBODY and "<" not in rule.rule:
            assert desk.get(rule.rule).status_code == 404


def test_shows_everybody_what_is_public(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    for rule, _ in routes(app, Access.PUBLIC, Access.AUTHOR, Access.SIGN_IN, unsafe=False):
        response = client.get(lived.address(rule), buffered=True)
        assert response.status_code == 200 or (response.location or "").startswith("/essays/"), rule


def test_shows_the_desk_to_moderators_only(house: House, app: Flask, desk: FlaskClient, client: FlaskClient) -> None:
    lived = live(house)
    for rule, _ in routes(app, Access.MODERATOR, unsafe=False):
        path = lived.address(rule)
        assert desk.get(path).status_code == 200, rule
        asked = client.get(path)
        assert (asked.status_code, asked.location) == (302, f"/desk/sign-in?next={path}"), rule
        assert "Are you there?" not in asked.text


def test_shows_admins_what_is_theirs_and_moderators_nothing_of_it(
    house: House, app: Flask, desk: FlaskClient, client: FlaskClient
) -> None:
    lived = live(house)
    make_admin_of_ada(house)
    ben = desk_of(app, BEN)
    for rule, _ in routes(app, Access.ADMIN, unsafe=False):
        path = lived.address(rule)
        assert desk.get(path).status_code == 200, rule
        assert ben.get(path).status_code == 403, rule
        assert (client.get(path).status_code, client.get(path).location) == (302, f"/desk/sign-in?next={path}"), rule


def test_lets_a_moderator_do_nothing_that_is_an_admins(house: House, app: Flask) -> None:
    lived = live(house)
    ben = desk_of(app, BEN)
    data = verdict(lived, house) | {"csrf_token": token_of(ben)}
    before = house.contents()
    tried = list(routes(app, Access.ADMIN, unsafe=True))
    for rule, method in tried:
        response = ben.open(lived.address(rule), method=method, data=data)
        assert response.status_code == 403, rule
        assert "Nothing was changed" in response.text
    assert tried
    assert house.contents() == before


def test_takes_nothing_from_who_is_signed_out(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    before = house.contents()
    for rule, _ in routes(app, Access.MODERATOR, Access.ADMIN, unsafe=True):
        response = client.post(lived.address(rule), data=verdict(lived, house))
        assert response.status_code == 401, rule
        assert "Nothing was changed" in response.text
    assert house.contents() == before


def test_shows_a_moderator_nothing_more_once_they_are_no_longer_active(house: House, app: Flask) -> None:
    lived = live(house)
    ben = desk_of(app, BEN)
    csrf = token_of(ben)
    with house.site.database.sessions.begin() as session:
        accounts.deactivate(session, BEN)
    before = house.contents()
    for rule, _ in routes(app, Access.MODERATOR, Access.ADMIN, unsafe=False):
        assert ben.get(lived.address(rule)).status_code == 302, rule
    for rule, _ in routes(app, Access.MODERATOR, Access.ADMIN, unsafe=True):
        data = verdict(lived, house) | {"csrf_token": csrf}
        assert ben.post(lived.address(rule), data=data).status_code in {400, 401, 403}, rule
    assert house.contents() == before


def test_shows_the_desk_to_nobody_whom_the_gate_no_longer_knows(house: House, desk: FlaskClient) -> None:
    lived = live(house)
    with house.site.database.sessions.begin() as session:
        moderators.deactivate(session, house.ada)
    for path in ("/desk/", f"/desk/submissions/{lived.pending}"):
        response = desk.get(path)
        assert response.status_code == 403
        assert "Are you there?" not in response.text


def test_signs_nobody_in_who_is_no_longer_active_or_never_was(house: House, app: Flask) -> None:
    for email, password in ((CLEO, PASSWORD), ("nobody@desk.example", PASSWORD), (ADA, "wrong-password-here")):
        client = app.test_client()
        assert sign_in(client, email, password).status_code == 200
        assert client.get("/desk/").status_code == 302


def test_gives_programs_what_their_token_allows(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    for rule, _ in routes(app, *TOKENS, unsafe=False):
        path = lived.address(rule)
        for token in (house.tokens.ada, house.tokens.ben, house.tokens.reader):
            assert client.get(path, headers=bearer(token)).status_code == 200, rule
        refused = client.get(path, headers=bearer(house.tokens.cleo))
        assert refused.status_code == 401, rule
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, bearer("emr_" + "A" * 43)],
)
def test_asks_programs_for_a_token(house: House, app: Flask, desk: FlaskClient, header: dict[str, str]) -> None:
    # Ada's cookie comes with it, and means nothing here.
    lived = live(house)
    before = house.contents()
    for rule, method in [*routes(app, *TOKENS, unsafe=False), *routes(app, *TOKENS, unsafe=True)]:
        response = desk.open(lived.address(rule), method=method, json=verdict(lived, house), headers=header)
        assert response.status_code == 401, rule
        assert "Are you there?" not in response.text
    assert house.contents() == before


def test_lets_a_reading_token_decide_nothing(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    before = house.contents()
    for rule, _ in routes(app, Access.DECIDER, unsafe=True):
        asked = {"digest": house.digest(lived.pending)}
        response = client.post(lived.address(rule), json=asked, headers=bearer(house.tokens.reader))
        assert response.status_code == 403, rule
    assert house.contents() == before


@pytest.mark.parametrize("end", ["revoked", "expired", "deactivated"])
def test_takes_no_token_that_ended(house: House, client: FlaskClient, end: str) -> None:
    sent = house.send()
    path = f"/api/v1/submissions/{house.submission(sent.public_id)}/approval"
    with house.site.database.sessions.begin() as session:
        if end == "revoked":
            for each in accounts.tokens(session):
                accounts.revoke_token(session, each.id)
        elif end == "expired":
            session.execute(update(ApiToken).values(expires_at=now() - timedelta(seconds=1)))
        else:
            accounts.deactivate(session, ADA)
    before = house.contents()
    assert client.post(path, json={"digest": sent.digest}, headers=bearer(house.tokens.ada)).status_code == 401
    assert client.get("/api/v1/queue", headers=bearer(house.tokens.ada)).status_code == 401
    assert house.contents() == before


def test_opens_an_authors_page_with_its_own_link_only(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    mine = house.send("Mine.")
    signature = mine.token.partition(".")[2]
    wrong = [f"{lived.pending_comment}.{signature}", lived.pending_comment, f"{mine.token}x", "x" * 3000]
    before = house.contents()
    for rule, method in [*routes(app, Access.AUTHOR, unsafe=False), *routes(app, Access.AUTHOR, unsafe=True)]:
        if rule.endpoint.startswith("mine."):
            continue  # These know an author by other things than their address (`tests/bridge/web/test_mine.py`).
        said = set()
        for token in wrong:
            path = lived.address(rule)
            for own in (lived.link, lived.report, lived.confirm, lived.stop, lived.belongings):
                path = path.replace(own, token)
            response = client.open(path, method=method, data={"author": "Reader", "body": "Stolen."})
            assert response.status_code == 404, rule
            assert "Are you there?" not in response.text
            said.add(response.text)
        assert len(said) == 1
    assert house.contents() == before


def test_opens_nothing_of_another_author_with_the_cookie_of_one(house: House, app: Flask) -> None:
    lived = live(house)
    stranger = app.test_client()
    sent = form(
        stranger.post(f"/essays/{SLUG}/comments", data={"author": "Stranger", "body": "Mine."}), "/comments"
    ).submit(stranger)
    assert stranger.get_cookie("__Host-author") is not None
    assert "Are you there?" not in stranger.get(sent.location).text
    assert stranger.get(f"/comments/{lived.pending_comment}").status_code == 404


# What is not released (R7)


def test_tells_the_public_nothing_of_words_that_are_not_released(house: House, app: Flask, client: FlaskClient) -> None:
    before = pages(house, app, client, live(house))
    canaries = [f"canary{number}" for number in range(10)]
    pending, rejected, changed, back, erased = (house.send(word, author=f"{word}name") for word in canaries[:5])
    house.reject(rejected.public_id, code="spam", reason=canaries[5], told=canaries[6])
    comments.change_comment(house.site, changed.public_id, Letter(canaries[7], canaries[7]))
    comments.take_back(house.site, back.public_id)
    # These are approved, so they are seen; what answers them is not.
    waiting, vetoed = house.post("Seen."), house.post("Seen too.")
    to_veto, undecided = house.answer(canaries[8], note=canaries[9])
    house.reject(to_veto, reason=f"{canaries[5]} {REASON}")
    house.reject(to_veto, by=house.ben)
    house.essay("canary-essay", f"# {canaries[0]}\n\n{canaries[1]}", released=False)
    lived = live(house)
    ids = [pending, rejected, changed, back, erased, waiting, vetoed]
    extra = [f"{at}/{each.public_id}" for each in ids for at in ("/comments", "/api/v1/comments")]
    extra += [f"{at}/{each}" for each in (to_veto, undecided) for at in ("/replies", "/api/v1/replies")]
    extra += ["/essays/canary-essay", "/api/v1/essays/canary-essay", "/api/v1/essays/canary-essay/thread"]
    shown = pages(house, app, client, lived, extra)
    assert len(shown) > len(before)
    for path, response in shown.items():
        said = response.text + str(response.headers)
        assert "canary" not in said.replace(path, ""), path


def pages(
    house: House, app: Flask, client: FlaskClient, lived: Lived, extra: list[str] | None = None
) -> dict[str, TestResponse]:
    """Return every public answer there is, by its address."""
    paths = [lived.address(rule) for rule, _ in routes(app, Access.PUBLIC, unsafe=False)]
    return {path: client.get(path, buffered=True) for path in (*paths, *(extra or []))}


def test_shows_the_same_pages_before_and_after_something_waits(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)

    def shown() -> dict[str, tuple[str, str]]:
        # But for tokens, which are fresh each time.
        found = pages(house, app, client, lived)
        fresh = re.compile(r'name="token" value="[^"]+"|(Date): [^\r]+')
        return {
            at: (fresh.sub("", page.text), fresh.sub("", str(page.headers)))
            for at, page in found.items()
            if not at.endswith("/form-token")
        }

    before = shown()
    house.send("canary", author="Canary")
    house.reject(house.send("canary too").public_id, code="spam")
    house.essay("canary", released=False)
    assert shown() == before


def test_answers_alike_for_what_is_not_released_and_what_never_was(
    house: House, app: Flask, client: FlaskClient
) -> None:
    lived = live(house)
    rejected = house.send()
    house.reject(rejected.public_id, code="spam")
    house.essay("pending", released=False)
    for at, known, unknown in [
        ("/comments/", [lived.pending_comment, rejected.public_id], "0" * 32),
        ("/replies/", [lived.pending_reply], "0" * 32),
        ("/api/v1/replies/", [lived.pending_reply], "0" * 32),
        ("/essays/", ["pending"], "nowhere"),
        ("/api/v1/essays/", ["pending"], "nowhere"),
    ]:
        told = client.get(at + unknown)
        assert told.status_code == 404
        for each in known:
            also = client.get(at + each)
            assert (also.status_code, also.text, str(also.headers)) == (404, told.text, str(told.headers)), at


# GET changes nothing (R1)


def make_admin_of_ada(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        accounts.change_role(session, accounts.of_moderator(session, house.ada).id, "admin", by=None)


def test_changes_nothing_by_a_get(house: House, app: Flask, desk: FlaskClient, client: FlaskClient) -> None:
    lived = live(house)
    make_admin_of_ada(house)
    before = house.contents()
    for rule, _ in routes(app, *Access, unsafe=False):
        if declared(app, rule.endpoint) is Access.NOBODY:
            continue
        for who in (client, desk):
            for method in ("GET", "HEAD", "OPTIONS"):
                path, headers = lived.address(rule), bearer(house.tokens.ada)
                response = who.open(path, method=method, headers=headers, buffered=True)
                assert response.status_code < 400, (rule, method)
    assert house.contents() == before


def test_reads_with_sessions_that_cannot_write(any_house: House) -> None:
    from sqlalchemy import insert
    from sqlalchemy.exc import DBAPIError

    from bridge.records import Role

    with any_house.site.database.reading_sessions() as session, pytest.raises(DBAPIError):
        session.execute(insert(Role).values(name="x"))


# Forms of other sites (R2)


def unsafe(app: Flask) -> list[tuple[Rule, str]]:
    kinds = (Access.MODERATOR, Access.ADMIN, Access.SIGN_IN, Access.SECOND_STEP)
    return list(routes(app, *kinds, unsafe=True))


def test_has_forms_with_authority_to_protect(app: Flask) -> None:
    assert {rule.endpoint for rule, _ in unsafe(app)} >= {
        "desk.create_approval",
        "desk.create_rejection",
        "people.change_role",
        "people.create_reset",
        "security.login",
        "security.logout",
        "security.mf_recovery",
    }


@pytest.mark.parametrize("trick", ["none", "empty", "another session's", "foreign", "null", "cross-site", "text/plain"])
def test_takes_no_form_that_this_session_was_not_given(house: House, app: Flask, desk: FlaskClient, trick: str) -> None:
    lived = live(house)
    make_admin_of_ada(house)  # Who may do everything, so that it is the form that is refused.
    ours, theirs = token_of(desk), token_of(desk_of(app, BEN))
    token = {"none": {}, "empty": {"csrf_token": ""}, "another session's": {"csrf_token": theirs}}
    fields = verdict(lived, house) | {"email": ADA, "password": PASSWORD} | token.get(trick, {"csrf_token": ours})
    headers = {
        "foreign": {"Origin": "https://evil.example"},
        "null": {"Origin": "null"},
        "cross-site": {"Sec-Fetch-Site": "cross-site"},
    }.get(trick, {})
    before = house.contents()
    for rule, method in unsafe(app):
        if trick == "text/plain":
            sent = {"data": json.dumps(fields), "content_type": "text/plain"}
            response = desk.open(lived.address(rule), method=method, **sent)  # type: ignore[arg-type]
        else:
            response = desk.open(lived.address(rule), method=method, data=fields, headers=headers)
        assert response.status_code in {400, 403}, rule
        assert response.location is None
    assert house.contents() == before
    assert desk.get("/desk/").status_code == 200  # And is still signed in.


def test_signs_nobody_in_by_a_form_of_another_session(app: Flask) -> None:
    one, other = app.test_client(), app.test_client()
    other.get("/desk/sign-in")
    filled = form(one.get("/desk/sign-in"), "/sign-in")
    assert filled.submit(other, email=ADA, password=PASSWORD).status_code in {200, 400}
    assert other.get("/desk/").status_code == 302


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_takes_no_form_of_another_site_where_no_token_is_needed(
    house: House, app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    lived = live(house)
    before = house.contents()
    for rule, method in routes(app, Access.PUBLIC, Access.AUTHOR, unsafe=True):
        path = lived.address(rule)
        sent = {"author": "Reader", "body": "Forged."}
        for given in ({"json": sent}, {"data": sent}):
            assert client.open(path, method=method, headers=headers, **given).status_code == 403, rule  # type: ignore[arg-type]
    assert house.contents() == before


def test_takes_a_form_of_this_host_whatever_its_name(house: House, app: Flask) -> None:
    client = app.test_client()
    headers = {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    sent = client.post(f"/essays/{SLUG}/comments", data={"author": "Reader", "body": "Here."}, headers=headers)
    assert sent.status_code == 200


# Sign-in


def test_gives_a_new_session_and_token_at_sign_in_and_ends_them_at_sign_out(app: Flask) -> None:
    client = app.test_client()
    client.get("/desk/sign-in")
    before = client.get_cookie("__Host-session")
    assert sign_in(client).status_code == 302
    within = client.get_cookie("__Host-session")
    assert before is not None
    assert within is not None
    assert before.value != within.value
    csrf = token_of(client)
    assert form(client.get("/desk/"), "/sign-out").submit(client).status_code == 302
    assert client.get("/desk/").status_code == 302
    # The cookie from before sign-in opens nothing, and the token from within is of no use any more.
    client.set_cookie("__Host-session", before.value)
    assert client.get("/desk/").status_code == 302
    assert client.post("/desk/sign-out", data={"csrf_token": csrf}).status_code == 401


def test_ends_sessions_when_the_password_is_reset(house: House, app: Flask, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        accounts.reset_password(session, ADA, "quite-another-one")
    assert desk.get("/desk/").status_code == 302


def test_answers_alike_for_an_address_that_is_known_and_one_that_is_not(app: Flask) -> None:
    told = []
    for email in (ADA, "nobody@desk.example", CLEO):
        client = app.test_client()
        response = sign_in(client, email, "wrong-password-here")
        alerts = ["".join(each.itertext()).strip() for each in tree(response).iter("p") if each.get("role") == "alert"]
        told.append((response.status_code, alerts))
    assert told[0] == told[1] == told[2]
    assert told[0][1]


@pytest.mark.parametrize(
    ("following", "leads"),
    [
        ("/desk/?kind=reply", "/desk/?kind=reply"),
        ("https://evil.example/", "/desk/"),
        ("//evil.example/", "/desk/"),
        ("/\\evil.example", "/desk/"),
        ("\\\\evil.example", "/desk/"),
        ("///evil.example", "/desk/"),
        ("javascript:alert(1)", "/desk/"),
        ("https:evil.example", "/desk/"),
    ],
)
def test_goes_on_after_sign_in_to_our_own_addresses_only(app: Flask, following: str, leads: str) -> None:
    client = app.test_client()
    page = client.get("/desk/sign-in", query_string={"next": following}, follow_redirects=True)
    asked = form(page, "/sign-in")
    by_hand = {"email": ADA, "password": PASSWORD, "csrf_token": asked.fields["csrf_token"]}
    # Somebody sends a link with `next`, or puts it into the address that the form goes to, or into the form.
    sent = client.post("/desk/sign-in", query_string={"next": following}, data=by_hand)
    assert sent.location in {leads, "/desk/sign-in"}
    client.delete_cookie("__Host-session")
    asked = form(client.get("/desk/sign-in"), "/sign-in")
    assert asked.submit(client, email=ADA, password=PASSWORD, next=following).location in {leads, "/desk/sign-in"}
    client.delete_cookie("__Host-session")
    asked = form(client.get("/desk/sign-in", query_string={"next": following}, follow_redirects=True), "/sign-in")
    assert asked.submit(client, email=ADA, password=PASSWORD).location == leads


def test_takes_no_odd_address_for_an_account(any_house: House) -> None:
    client = create_app(any_house.site).test_client()
    for email in ("a\x00@desk.example", "\u202eada@desk.example", "ada", "x" * 3000 + "@desk.example", ""):
        assert sign_in(client, email).status_code in {200, 400}
    assert sign_in(client, "ADA@desk.example").location == "/desk/"
