"""Wrong environment variables: one clear line that names the variable and the remedy, never a password."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import django
import environ
import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.smtp import EmailBackend
from django.test import Client, RequestFactory, override_settings
from django.views.debug import ExceptionReporter

from bench.runtime.workers import ROOT
from jobqueue_project import environment


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch):
    """Reads the variables that a test sets with `monkeypatch.setenv`, and no .env."""
    for name in (
        "DATABASE_URL",
        "REDIS_URL",
        "SECRET_KEY",
        "SECRET_KEY_FILE",
        "DEBUG",
        "LOG_LEVEL",
        "EMAIL_URL",
        "SECURE_PROXY_SSL_HEADER",
    ):
        monkeypatch.delenv(name, raising=False)
    return environ.Env()


def read_database(env: environ.Env, tmp_path: Path) -> dict:
    return environment.database(env, "DATABASE_URL", "sqlite:///var/db.sqlite3", tmp_path)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "jobqueue_project.settings"} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", [["migrate"], ["runworker"], ["no-such-command"]])
def test_a_wrong_value_ends_every_command_with_one_line(command: list[str]) -> None:
    done = manage(*command, DEBUG="maybe")
    assert done.returncode == 2
    assert done.stderr == "manage.py: DEBUG='maybe' is neither true nor false: write true or false.\n"
    assert done.stdout == ""


def test_with_traceback_the_place_is_shown() -> None:
    assert "Traceback" in manage("check", "--traceback", DEBUG="maybe").stderr


@pytest.mark.parametrize(
    "text,value", [("true", True), ("ON", True), ("1", True), ("no", False), ("0", False)]
)
def test_flags(env: environ.Env, monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("DEBUG", text)
    assert environment.flag(env, "DEBUG", not value) is value


@pytest.mark.parametrize(
    "url,said",
    [
        ("nonsense", "no scheme"),
        ("oracle://u:geheim@h/x", "the scheme oracle"),
        ("postgresql://u:geheim@h:port/x", "not a database URL"),
        ("postgresql://u:geheim/x@h:5432/x", "not a database URL"),
        ("postgresql://u:geheim@h", "names no database"),
        ("sqlite://", "in-memory"),
        ("sqlite://:memory:", "in-memory"),
        ("sqlite:////proc/none/db.sqlite3", "cannot be made"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_wrong_database_urls(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, said: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        read_database(env, tmp_path)
    message = str(caught.value)
    assert message.startswith("DATABASE_URL") and "\n" not in message and "geheim" not in message


def test_sqlite_is_below_the_project_and_safe_for_many_writers(env: environ.Env, tmp_path: Path) -> None:
    config = read_database(env, tmp_path)
    assert config["NAME"] == str(tmp_path / "var" / "db.sqlite3")
    assert config["TEST"]["NAME"] == str(tmp_path / "var" / "test_db.sqlite3")
    assert config["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert (tmp_path / "var").is_dir()


def test_postgresql_keeps_connections_and_checks_them(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p%40ss@db:5433/jobs")
    config = read_database(env, tmp_path)
    assert config["ENGINE"] == "django.db.backends.postgresql"
    assert (config["PASSWORD"], config["PORT"], config["NAME"]) == ("p@ss", 5433, "jobs")
    assert config["CONN_MAX_AGE"] is None and config["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize("url", ["http://a", "localhost:6379", "redis://h:99999999/0", "redis://h:x/0", ""])
def test_wrong_redis_urls(env: environ.Env, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL is not a Redis URL: use redis://"):
        environment.redis_url(env, "REDIS_URL", "embedded://")


def test_a_wrong_choice_and_a_wrong_number(env: environ.Env, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "chatty")
    with pytest.raises(ImproperlyConfigured, match="LOG_LEVEL='chatty' is unknown: use one of DEBUG, INFO"):
        environment.choice(env, "LOG_LEVEL", "INFO", ("DEBUG", "INFO"))
    monkeypatch.setenv("EMAIL_PORT", "-1")
    with pytest.raises(ImproperlyConfigured, match="EMAIL_PORT='-1'"):
        environment.whole(env, "EMAIL_PORT", 25)


@pytest.mark.parametrize(
    "variables,expected",
    [
        ({}, ("localhost", 25, False, False)),
        ({"EMAIL_HOST": "mail", "EMAIL_PORT": "2525"}, ("mail", 2525, False, False)),
        ({"EMAIL_URL": "smtp+tls://u:p@mail"}, ("mail", 587, True, False)),
        ({"EMAIL_URL": "smtp+ssl://u:p@mail:4465", "EMAIL_HOST": "other"}, ("mail", 4465, False, True)),
    ],
)
def test_mail_goes_where_the_variables_say(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with override_settings(**environment.email(env)):
        if django.VERSION >= (6, 1):
            from django.core.mail import mailers

            mailer = mailers["default"]
        else:
            mailer = mail.get_connection()
        assert isinstance(mailer, EmailBackend)
        assert (mailer.host, mailer.port, mailer.use_tls, mailer.use_ssl) == expected
        assert mailer.timeout == 30


def test_a_wrong_email_url_does_not_show_its_password(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAIL_URL", "pigeon://u:geheim@mail")
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL is not an e-mail URL") as caught:
        environment.email(env)
    assert "geheim" not in str(caught.value)


def test_secret_key_is_required_unless_a_file_may_be_made(env: environ.Env, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        environment.secret_key(env, None)
    file = tmp_path / "var" / "secret_key"
    key = environment.secret_key(env, file)
    assert len(key) > 50
    assert environment.secret_key(env, file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_secret_key_file_wins_over_the_default_place(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mounted").write_text("from the file\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "mounted"))
    assert environment.secret_key(env, tmp_path / "other") == "from the file"
    (tmp_path / "mounted").write_text("")
    with pytest.raises(ImproperlyConfigured, match="is empty"):
        environment.secret_key(env, None)


KEY = "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
HTTPS = {
    "DEBUG": "false",
    "SECRET_KEY": KEY,
    "SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto: https",
    "SECURE_SSL_REDIRECT": "true",
    "SECURE_HSTS_SECONDS": "3600",
}


def test_the_site_can_be_deployed_without_a_warning() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **HTTPS)
    assert done.returncode == 0, done.stderr


def test_what_is_left_to_warn_of_without_https() -> None:
    """The safe values need no variable; what needs to know that there is HTTPS does."""
    done = manage("check", "--deploy", DEBUG="false", SECRET_KEY=KEY)
    assert set(re.findall(r"security\.W\d+", done.stderr)) == {"security.W004", "security.W008"}
    done = manage("check", "--deploy", DEBUG="false", SECRET_KEY=KEY, SECURE_COOKIES="false")
    assert {"security.W012", "security.W016"} < set(re.findall(r"security\.W\d+", done.stderr))


@pytest.mark.parametrize(
    ("variables", "secure"),
    [
        ({"DEBUG": "false"}, True),
        ({"DEBUG": "true"}, False),  # on one's own machine, over HTTP
        ({"DEBUG": "false", "SECURE_COOKIES": "no"}, False),
        ({"DEBUG": "true", "SECURE_COOKIES": "yes"}, True),
    ],
)
def test_cookies_are_secure_unless_debugging(variables: dict[str, str], secure: bool) -> None:
    code = (
        "from jobqueue_project import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_PROXY_SSL_HEADER)"
    )
    environment = os.environ | {"SECRET_KEY": KEY} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{secure} {secure} None\n", done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("X-Forwarded-Proto: https", ("HTTP_X_FORWARDED_PROTO", "https")),
        ("x-forwarded-proto:https", ("HTTP_X_FORWARDED_PROTO", "https")),
        ("HTTP_X_FORWARDED_PROTO,https", ("HTTP_X_FORWARDED_PROTO", "https")),
        ("Front-End-Https = on", ("HTTP_FRONT_END_HTTPS", "on")),
    ],
)
def test_the_header_of_a_proxy(
    env: environ.Env, monkeypatch: pytest.MonkeyPatch, text: str, value: tuple[str, str] | None
) -> None:
    monkeypatch.setenv("SECURE_PROXY_SSL_HEADER", text)
    assert environment.header(env, "SECURE_PROXY_SSL_HEADER") == value


@pytest.mark.parametrize(
    "text", ["X-Forwarded-Proto", "true", "X-Forwarded-Proto:", ": https", "A B: c", "A: b c"]
)
def test_a_header_without_a_value(env: environ.Env, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SECURE_PROXY_SSL_HEADER", text)
    with pytest.raises(ImproperlyConfigured, match=r"SECURE_PROXY_SSL_HEADER=.* X-Forwarded-Proto: https"):
        environment.header(env, "SECURE_PROXY_SSL_HEADER")


def test_health_checks_are_not_sent_to_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the machine itself, past the proxy."""
    with override_settings(SECURE_SSL_REDIRECT=True):
        assert Client().get("/health/live/").status_code == 200
        assert Client().get("/admin/").status_code == 301


def test_a_file_with_a_wrong_line_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read: dict[str, str] = {}
    monkeypatch.setattr(environ.Env, "ENVIRON", read)
    file = tmp_path / ".env"
    file.write_text("# a comment\n\n  # geheim, and indented\nexport DEBUG=true\nSECRET_KEY='a=b'\n   \n")
    environment.read_file(environ.Env(), file)
    assert read == {"DEBUG": "true", "SECRET_KEY": "a=b"}
    file.write_text("DEBUG=true\nSECRET_KEY geheim\n")
    with pytest.raises(ImproperlyConfigured, match=r"^\.env, line 2, is not NAME=value") as caught:
        environment.read_file(environ.Env(), file)
    assert "geheim" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("debug", [True, False])
def test_error_reports_hide_the_urls(env: environ.Env, debug: bool) -> None:
    """Pages of DEBUG and mails to ADMINS list settings and environment; Django hides what is called a password."""
    variables = {"DATABASE_URL": "postgresql://u:geheim@h/x", "REDIS_URL": "redis://:geheim@h/0"}
    request = RequestFactory().get("/", **variables)
    with override_settings(QUEUE_APP={"REDIS_URL": variables["REDIS_URL"]}, DEBUG=debug):
        try:
            environment.choice(env, "LOG_LEVEL", "chatty", ("DEBUG", "INFO"))
        except ImproperlyConfigured as error:
            assert error.__traceback__ is not None
            within = error.__traceback__.tb_next  # this function's own variables are no part of it
            reporter = ExceptionReporter(request, type(error), error, within)
        text = reporter.get_traceback_text() + reporter.get_traceback_html()
    assert "chatty" in text and "DATABASE_URL" in text and "QUEUE_APP" in text
    assert "geheim" not in text


def test_env_example_explains_every_variable_and_no_other() -> None:
    code = "".join(
        (ROOT / "jobqueue_project" / name).read_text() for name in ("settings.py", "environment.py")
    )
    read = set(re.findall(r"""(?:env, |env\.\w+\()"([A-Z_]+)\"""", code))
    compose = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    explained = re.findall(r"(?m)^#?([A-Z_]+)=", (ROOT / ".env.example").read_text())
    assert sorted(explained) == sorted(read | compose)
