"""No message repeats a secret of a URL, wherever in it the secret stands and however it is spelled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import environ
import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobqueue_project import environment
from queue_app import conf
from queue_app.dispatch import connection, embedded
from queue_app.domain.masking import masked, without_secrets
from queue_app.exceptions import StoreUnavailable

#: Letters that no message has of itself, so that a secret that is found has come out of the URL.
MARK = "zqx"
TRICKY = "/?#@:%[]\\ &=+;,\n\t\x00é＠"
secrets = (
    st.text(st.sampled_from(TRICKY + "aZ0"), max_size=6)
    .filter(lambda text: "://" not in text)  # what stands before it is a scheme
    .map(lambda text: f"{MARK}{text}{MARK}")
)
quoted = secrets.map(lambda text: quote(text, safe=""))
#: Percent signs before all characters, also those that need none.
encoded = secrets.map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode()))
spelled = secrets | quoted | encoded

URLS = [
    "redis://{0}:{1}@127.0.0.1:1/0",
    "redis://:{0}@127.0.0.1:1/0",
    "redis://{0}@127.0.0.1:1",
    "rediss://{0}:{1}@127.0.0.1:1/0?ssl_keyfile=/{2}",
    "redis://127.0.0.1:1/0?password={0}&username={1}",
    "redis://127.0.0.1:1?PASSWORD={0}",
    "rediss://127.0.0.1:1/0?ssl_cert_reqs=none&ssl_keyfile={0}&ssl_password={1}",
    "redis://127.0.0.1:1/0?{0}",
    "redis://127.0.0.1:1/{0}",
    "redis://127.0.0.1:1/0#{0}",
    "redis://127.0.0.1:{0}/0",
    "redis://{0}:12/{1}@127.0.0.1:1/0",
    "redis://u:12?{0}@127.0.0.1:1/0",
    "redis://u:12#{0}@127.0.0.1:1/0",
    "redis://u:{0}[@127.0.0.1:1/0",
    "redis:///{0}:{1}@127.0.0.1:1/0",
    "redis:{0}:{1}@127.0.0.1:1/0",
    "//{0}:{1}@127.0.0.1:1/0",
    "{0}:{1}@127.0.0.1:1/0",
    "unix://{0}:{1}@/nowhere/redis.sock?db=0",
    "unix:///nowhere/redis.sock?password={0}",
    "unix:///nowhere/redis.sock#{0}",
    "embedded://{0}:{1}@nowhere",
    "embedded:///nowhere?password={0}",
    "embedded:///nowhere#{0}",
    "http://{0}:{1}@127.0.0.1:1/0",
]

with_secrets = st.builds(
    lambda form, *values: form.format(*values), st.sampled_from(URLS), spelled, spelled, spelled
)


def hides(text: str) -> None:
    # The mark may be spelled in percents too, in upper or lower case.
    assert MARK not in text.lower() and quote(MARK) not in text.lower(), text
    assert "".join(f"%{ord(c):02x}" for c in MARK) not in text.lower(), text


@given(with_secrets)
@example("redis://:zqx/zqx@127.0.0.1:1/0")
@example("redis://127.0.0.1:1/0?password=zqx@zqx")
def test_a_masked_url_holds_no_secret(url: str) -> None:
    hides(masked(url))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://10.0.0.5:6379/2", "redis://10.0.0.5:6379/2"),
        ("REDIS://localhost", "redis://localhost"),
        ("rediss://[::1]:6379/", "rediss://[::1]:6379/"),
        ("redis://cache-1.eu_west.example/0", "redis://cache-1.eu_west.example/0"),
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("redis://user:secret@h:1/0", "redis://***:***@h:1/0"),
        ("redis://user@h:1/0", "redis://***@h:1/0"),
        ("redis://:se@cret@h:1/0", "redis://:***@h:1/0"),
        ("redis://h:1/0?db=3", "redis://h:1/0?***"),
        ("redis://h:1/0?password=x", "redis://h:1/0?***"),
        ("redis://", "redis://"),
        ("redis:///3", "redis:///3"),
        ("unix:///run/redis@1/redis.sock", "unix:///run/redis@1/redis.sock"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?***"),
        ("unix://user:secret@/run/redis.sock", "unix://***:***@/run/redis.sock"),
        ("embedded://", "embedded://"),
        ("embedded:///tmp/x", "embedded:///tmp/x"),
        ("embedded://x", "embedded://***"),
        # Whether these are what they seem to be is not known:
        ("redis://:a/b@h:1/0", "redis://***"),
        ("redis://h:1/0#x", "redis://***"),
        ("redis://h:port/0", "redis://***"),
        ("redis://h:1/x", "redis://***"),
        ("redis://u%3Ap%40h/0", "redis://***"),
        ("http://h/0", "***"),
        ("nonsense", "***"),
        ("", "***"),
    ],
)
def test_the_rest_of_a_url_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@given(with_secrets)
def test_settings_that_are_refused_are_not_repeated(url: str) -> None:
    try:
        conf.build({"REDIS_URL": url})
    except ImproperlyConfigured as error:
        hides(str(error))
        assert "\n" not in str(error) and "QUEUE_APP['REDIS_URL']" in str(error)


@pytest.mark.parametrize("value", [b"redis://:zqx@h/0", ["redis://:zqx@h/0"], {"host": "zqx"}, None, 5])
def test_nor_what_is_no_text(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"QUEUE_APP\['REDIS_URL'\] must be a string") as caught:
        conf.build({"REDIS_URL": value})
    hides(str(caught.value))


@given(with_secrets)
@example("rediss://zqxa:zqxb@127.0.0.1:1/0?ssl_ca_certs=/zqxc")
def test_nor_does_an_error_of_the_client_repeat_them(url: str) -> None:
    """What redis-py says of an address that it really tried."""
    with override_settings(QUEUE_APP={"REDIS_URL": url}):
        try:
            conf.get()
        except ImproperlyConfigured:
            return
        try:
            redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)).ping()
        except (ValueError, TypeError):
            return  # an option that the client does not know
        except connection.Unavailable as error:
            hides(connection.explain(error))
            hides(connection.explain_publicly(error))
            hides(connection.safe_url())


@given(secrets, secrets)
def test_text_that_repeats_them_is_cleaned(user: str, password: str) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h:1/0?ssl_password={quote(password)}"
    for text in (f"NOPERM User {user} may not", f"cannot use {url}", f"{password}: no", quote(password)):
        hides(without_secrets(text, url))


def test_text_without_secrets_stays_as_it_is() -> None:
    url = "redis://user:secret@10.0.0.5:6379/0?db=0&socket_timeout=5"
    text = "Error 111 connecting to 10.0.0.5:6379. Connection refused."
    assert without_secrets(text, url) == text
    assert without_secrets("User user: secret", url) == "User ***: ***"


def test_a_short_secret_leaves_no_pattern() -> None:
    """To put *** for each `e` would tell the password; the text goes as a whole."""
    assert without_secrets("the wrong pass", "redis://:e@h/0") == ""
    assert without_secrets("no pass", "redis://:e@h/0") == "no pass"


@given(with_secrets)
def test_an_embedded_server_repeats_no_url(url: str) -> None:
    if not url.startswith("embedded:"):
        return
    try:
        embedded.resolve(url)
    except StoreUnavailable as error:
        hides(str(error))


DATABASES = [
    "postgresql://{0}:{1}@h:5432/",
    "postgresql://{0}:{1}@h:port/x",
    "postgresql://u:{0}/x@h:1/x",
    "oracle://{0}:{1}@h/x",
    "{0}:{1}@h://x",
    "postgresql:{0}:{1}@h/x",
    "{0}",
]


@given(
    st.builds(lambda form, *values: form.format(*values), st.sampled_from(DATABASES), spelled, spelled),
    st.sampled_from(["DATABASE_URL", "REDIS_URL", "EMAIL_URL"]),
)
def test_nor_do_the_projects_readers(url: str, name: str) -> None:
    readers: dict[str, Callable[[environ.Env], Any]] = {
        "DATABASE_URL": lambda env: environment.database(env, name, "", Path("/nowhere")),
        "REDIS_URL": lambda env: environment.redis_url(env, name, ""),
        "EMAIL_URL": environment.email,
    }
    if "\x00" in url:
        return  # no environment variable can hold it
    os.environ[name], before = url, os.environ.get(name)
    try:
        with warnings.catch_warnings(action="error"):
            readers[name](environ.Env())
    except ImproperlyConfigured as error:
        hides(str(error))
        assert "\n" not in str(error) and name in str(error)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
