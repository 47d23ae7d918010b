"""What REDIS_URL may say, and what a wrong one is told, without its password."""

from __future__ import annotations

import pytest

from leaderboard_site.conf.redis import SENTINEL_TIMEOUT_S, redis_of

TIMEOUTS = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}


def test_the_url_of_a_server_is_the_librarys() -> None:
    server = redis_of("rediss://ada:secret@redis.example.org:6380/2?ssl_cert_reqs=none")

    assert server.cache(0.1)["LOCATION"] == "rediss://ada:secret@redis.example.org:6380/2?ssl_cert_reqs=none#0.1"
    assert server.channel_layer_host()["address"] == server.url
    assert "secret" not in repr(server)


def test_sentinels_are_told_apart_from_the_master_that_they_name() -> None:
    server = redis_of(
        "rediss+sentinel://ada:p%40ss@one:26380,two,[2001:db8::1]:5/3?master=Board"
        "&sentinel_username=eye&sentinel_password=s%26t&ssl_ca_certs=/etc/ca.pem"
    )

    tls = {"ssl": True, "ssl_ca_certs": "/etc/ca.pem"}
    assert (server.master, server.sentinels) == ("Board", (("one", 26380), ("two", 26379), ("2001:db8::1", 5)))
    assert server.options == {"username": "ada", "password": "p@ss", "db": 3} | tls
    assert server.sentinel_options == {"username": "eye", "password": "s&t"} | TIMEOUTS | tls
    assert not any(secret in repr(server) for secret in ("p@ss", "s&t"))
    host = server.channel_layer_host()
    assert (host["master_name"], host["sentinels"], host["password"]) == ("Board", server.sentinels, "p@ss")


def test_nothing_but_hosts_and_a_master_is_needed() -> None:
    server = redis_of("redis+sentinel://:hunter2@one?master=m")

    assert server.options == {"password": "hunter2", "db": 0}
    assert server.sentinel_options == TIMEOUTS


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://ada:hunter2@redis", "expected redis://"),
        ("redis:hunter2", "expected redis://"),
        ("redis://ada:hun/ter2@redis/0", "host or port cannot be read"),
        ("redis://:hun#ter2@redis/0", "host or port cannot be read"),
        ("redis://:6379/hunter2@redis", "names no host"),
        ("redis://ada:hunter2@redis:99999/0", "host or port cannot be read"),
        ("redis://ada:hunter2@redis:0/0", "port is a number"),
        ("redis://ada:hunter2@redis/zero", "database is a number"),
        ("redis://ada:hunter2@redis/0#a", "# too many"),
        ("redis://redis/0?pasword=hunter2", "parameter that redis-py does not know"),
        ("redis://redis/0?socket_timeout=hunter2", "parameter that redis-py does not know"),
        ("redis+sentinel://ada:hunter2@one,two/0", "names no master"),
        ("redis+sentinel://ada:hunter2@one,two/0?master=", "names no master"),
        ("redis+sentinel://ada:hun@ter2@one/0?master=m", "expected redis+sentinel://"),
        ("redis+sentinel://ada:hun/ter2@one/0?master=m", "expected redis+sentinel://"),
        ("redis+sentinel://ada:hun#ter2@one/0?master=m", "expected redis+sentinel://"),
        ("redis+sentinel://ada:hunter2/0?master=m", "port of a sentinel"),
        ("redis+sentinel://one:0/0?master=m&sentinel_password=hunter2", "port of a sentinel"),
        ("redis+sentinel://one,/0?master=m&sentinel_password=hunter2", "a sentinel has no host"),
        ("redis+sentinel:///0?master=m&sentinel_password=hunter2", "a sentinel has no host"),
        ("redis+sentinel://one/hunter2?master=m", "database is a number"),
        ("redis+sentinel://one/0?master=m&hunter2", "parameters cannot be read"),
        ("redis+sentinel://one/0?master=m&sentinel_pasword=hunter2", "parameter that redis-py does not know"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong_without_its_password(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        redis_of(url)

    assert told in str(refused.value)
    assert not any(part in str(refused.value) for part in ("hunter2", "ter2", "hun"))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
