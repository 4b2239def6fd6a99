"""Plain requests to a gateway: whose pages may ask, who sees the metrics, and tokens for one connection."""

import json

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from diart_mp.errors import UsageError
from diart_mp.web.http import foreign, parse_origin
from diart_mp.web.protocol import ClientError
from diart_mp.web.tokens import Tokens

from .rig import Serving, serving
from .test_limits import EXPIRED, GOOD, SINGLE, refused
from .test_limits import strict as strict

TALK = "https://talk.example.org"


def test_pages_of_others_may_not_connect(server: Serving) -> None:
    for headers in ({"Origin": "https://example.org"}, {"Host": "example.org"}):
        status, text = server.get("/", **headers)
        assert status == 403
        assert "may not" in text or "this machine" in text


def test_a_proxy_may_show_the_page_elsewhere() -> None:
    with serving(origins=(TALK,), token=GOOD, protect_metrics=True) as proxied:
        page = {"Origin": TALK}
        assert proxied.get("/", **page)[0] == 200
        assert proxied.get("/", Origin="http://talk.example.org")[0] == 403
        assert proxied.get("/", Origin="https://example.org")[0] == 403
        assert [proxied.get("/metrics", **headers)[0] for headers in (page, {"Authorization": "Bearer wrong"})] == [
            401,
            401,
        ]
        assert "diart_mp_sessions 0.0" in proxied.get("/metrics", Authorization=f"Bearer {GOOD}")[1]
        assert proxied.get("/readyz")[0] == 200


def test_a_proxy_may_keep_the_name_that_browsers_know() -> None:
    asked = {"Host": "talk.example.org", "Origin": TALK}
    others = {"Host": "example.org"}
    for headers, origins, wrong in ((asked, (TALK,), False), (asked, (), True), (others, (TALK,), True)):
        assert bool(foreign(Request("/", Headers(headers)), local_only=True, origins=origins)) == wrong


@pytest.mark.parametrize(
    "origin", ["talk.example.org", "https://talk.example.org/page", "ftp://x", "https://x:99999999"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        parse_origin(origin)


def test_origins_are_compared_as_browsers_say_them() -> None:
    assert parse_origin(" HTTPS://Talk.example.org:443/") == "https://talk.example.org"
    assert parse_origin("http://[::1]:7007") == "http://[::1]:7007"


def test_a_token_for_one_connection(strict: Serving) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] == 0)
    status, text = strict.post("/v1/sessions", Authorization=f"Bearer {SINGLE}")
    answer = json.loads(text)
    assert (status, answer["expires_in"]) == (201, 60)
    with (
        strict.client(path=f"/?token={answer['token']}") as one,
        strict.client(path=f"/?token={answer['token']}") as two,
    ):
        assert refused(two) == ("unauthorized", 1008)
        resume = one.start()["resume_token"]
        other = json.loads(strict.post("/v1/sessions", Authorization=f"Bearer {SINGLE}")[1])["token"]
        with strict.client(token=other) as full:
            full.tell("start")
            assert refused(full) == ("quota", 1013)  # what it is made of has one stream
        with strict.client(token=SINGLE) as again:  # the stream is the lasting token's
            again.tell("start", resume_token=resume)
            again.hear("started")
            again.tell("stop")
            again.finish()
            assert again.close_code == 1000


def test_tokens_for_one_connection_need_a_lasting_one(strict: Serving) -> None:
    good = json.loads(strict.post("/v1/sessions", Authorization=f"Bearer {GOOD}")[1])["token"]
    for token in ("", "wrong", EXPIRED, good):
        status, text = strict.post("/v1/sessions", Authorization=f"Bearer {token}")
        assert (status, json.loads(text)["code"]) == (401, "unauthorized")
    assert strict.post(f"/v1/sessions?token={GOOD}")[0] == 401  # addresses are written down in too many places
    assert strict.get("/v1/sessions", Authorization=f"Bearer {GOOD}")[0] == 405


def test_few_tokens_wait_to_be_used() -> None:
    tokens = Tokens("ann")
    first, *_ = [tokens.issue("ann") for _ in range(100)]
    with pytest.raises(ClientError, match="ask again in 60 s"):
        tokens.issue("ann")
    assert tokens.admit(first) == tokens.check("ann")
    tokens.issue("ann")
    with pytest.raises(ClientError, match="used already"):
        tokens.admit(first)
