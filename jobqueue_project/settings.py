"""Settings of the project, read from the environment and from `.env`; `.env.example` explains them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import environ

from jobqueue_project import environment

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = environ.Env()
if (BASE_DIR / ".env").is_file():
    environment.read_file(env, BASE_DIR / ".env")  # the real environment wins over the file

# Security

DEBUG = environment.flag(env, "DEBUG", False)
SECRET_KEY = environment.secret_key(env, VAR_DIR / "secret_key" if DEBUG else None)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.flag(env, "SECURE_COOKIES", not DEBUG)
SECURE_PROXY_SSL_HEADER = environment.header(env, "SECURE_PROXY_SSL_HEADER")
SECURE_SSL_REDIRECT = environment.flag(env, "SECURE_SSL_REDIRECT", False)
SECURE_REDIRECT_EXEMPT = [r"^health/"]  # asked by the machine itself, past the proxy
SECURE_HSTS_SECONDS = environment.whole(env, "SECURE_HSTS_SECONDS", 0)
# What other names of the domain do, and the browsers' own lists, are not this site's to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
DEFAULT_EXCEPTION_REPORTER_FILTER = "jobqueue_project.reporting.HideUrls"

# Applications

# Django 6.0 brings the Tasks API; before it, the backport package does.
HAS_DJANGO_TASKS = find_spec("django.tasks") is not None
BACKPORT = [] if HAS_DJANGO_TASKS or find_spec("django_tasks") is None else ["django_tasks"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    *BACKPORT,
    "queue_app",
    "dashboard",
    "jobqueue_project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "jobqueue_project.urls"
WSGI_APPLICATION = "jobqueue_project.wsgi.application"
ASGI_APPLICATION = "jobqueue_project.asgi.application"

# Stores: the database is the record, Redis the hot path

DATABASES = {"default": environment.database(env, "DATABASE_URL", "sqlite:///var/db.sqlite3", BASE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The queue

QUEUE_APP = {"REDIS_URL": environment.redis_url(env, "REDIS_URL", "embedded://")}
TASKS = {"default": {"BACKEND": "queue_app.backend.JobQueueBackend", "QUEUES": [], "OPTIONS": {}}}

# The web

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
}
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = True  # serves the apps' static files without a collectstatic step

# E-mail

DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="jobs@localhost")
globals().update(environment.email(env))  # MAILERS or EMAIL_*, as this Django wants it

# Time and language

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

# Demo tasks

MEDIA_ROOT = environment.folder(env, "MEDIA_ROOT", VAR_DIR / "media", BASE_DIR)
SCRAPE_ALLOWED_HOSTS = env.list("SCRAPE_ALLOWED_HOSTS", default=[])

# Logging

LOG_LEVEL = environment.choice(env, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = environment.choice(env, "LOG_FORMAT", "text", ("text", "json"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "queue_app.observability.log_format.LineFormatter",
            "fmt": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "queue_app": {"level": LOG_LEVEL},
        "dashboard": {"level": LOG_LEVEL},
        "jobqueue_project": {"level": LOG_LEVEL},
    },
}
