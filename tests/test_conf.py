"""Settings: a wrong key or value is an answer that names it, with the remedy."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from queue_app import checks, conf


def test_nothing_at_all_gives_the_defaults() -> None:
    assert conf.build({}) == conf.Settings()


def test_values_are_taken_and_numbers_become_what_they_should() -> None:
    settings = conf.build({"LEASE": 3, "CLAIM_MAX": 7, "KEY_PREFIX": "shop", "TIMEOUT": None})
    assert settings == conf.Settings(LEASE=3.0, CLAIM_MAX=7, KEY_PREFIX="shop")
    assert isinstance(settings.LEASE, float)
    assert conf.build({"TASK_MODULES": ["shop.jobs"]}).TASK_MODULES == ("shop.jobs",)


@pytest.mark.parametrize("name", list(conf.FIELDS))
def test_every_default_passes_its_own_check(name: str) -> None:
    default = conf.FIELDS[name].default
    assert getattr(conf.build({name: default}), name) == default
    assert conf.FIELDS[name].metadata["doc"].rstrip(".") != ""


@pytest.mark.parametrize(
    "values,said",
    [
        ({"LEESE": 1}, "unknown setting 'LEESE'. Did you mean 'LEASE'?"),
        ({"redis_url": ""}, "unknown setting 'redis_url'. Did you mean 'REDIS_URL'?"),
        ({"COLOUR": 1}, "unknown setting 'COLOUR'. docs/settings.md lists them all."),
        ({1: 1}, "unknown setting 1."),
        ([("LEASE", 1)], "QUEUE_APP must be a dict of settings, not list."),
        ({"LEASE": "15"}, "QUEUE_APP['LEASE'] must be a number, not '15'."),
        ({"LEASE": True}, "QUEUE_APP['LEASE'] must be a number, not True."),
        ({"LEASE": None}, "QUEUE_APP['LEASE'] must be a number, not None."),
        ({"LEASE": 0.5}, "QUEUE_APP['LEASE'] is 0.5; the least is 1."),
        ({"CLAIM_MAX": 2.0}, "QUEUE_APP['CLAIM_MAX'] must be a whole number, not 2.0."),
        ({"CLAIM_MAX": 2001}, "QUEUE_APP['CLAIM_MAX'] is 2001; the most is 2000."),
        ({"TIMEOUT": 0}, "QUEUE_APP['TIMEOUT'] is 0; the least is 0.01."),
        ({"BACKOFF_BASE": math.nan}, "QUEUE_APP['BACKOFF_BASE'] must be a number, not nan."),
        ({"KEEP_FAILED": math.inf}, "QUEUE_APP['KEEP_FAILED'] must be a number, not inf."),
        ({"RELEASE": 7}, "QUEUE_APP['RELEASE'] must be a string, not 7."),
        ({"BACKOFF_JITTER": "half"}, "'half'; use 'full', 'equal' or 'none'."),
        ({"REDIS_URL": "reds://x"}, "has the scheme 'reds'; use one of redis://, rediss://, unix://"),
        ({"REDIS_URL": "reds://x"}, "Did you mean 'redis'?"),
        ({"REDIS_URL": "localhost"}, "has the scheme ''"),
        ({"KEEP_TASKS": []}, "QUEUE_APP['KEEP_TASKS'] must be a dict by task, not []."),
        (
            {"KEEP_TASKS": {"a.b": 60}},
            "QUEUE_APP['KEEP_TASKS']['a.b'] is 60; use the dotted path of a task, and",
        ),
        ({"KEEP_TASKS": {"a.b": {"dead": 1}}}, "{'dead': 1}; use the dotted path"),
        ({"KEEP_TASKS": {"a.b": {"failed": -1}}}, "['a.b']['failed'] is -1; use seconds, or None for ever."),
        (
            {"TASK_MODULES": "shop.jobs"},
            "QUEUE_APP['TASK_MODULES'] must be a list of modules, not 'shop.jobs'.",
        ),
        (
            {"TASK_MODULES": ["shop/jobs.py"]},
            "has 'shop/jobs.py'; use the dotted name of a module or package",
        ),
        ({"TASK_MODULES": ["shop."]}, "has 'shop.'; use the dotted name"),
        ({"TASK_MODULES": [7]}, "has 7; use the dotted name"),
        ({"IMPORT_TIMEOUT": None}, "QUEUE_APP['IMPORT_TIMEOUT'] must be a number, not None."),
        ({"MAINTENANCE": "yes"}, "QUEUE_APP['MAINTENANCE'] must be True or False, not 'yes'."),
        ({"KEY_PREFIX": ""}, "it must not be empty"),
        ({"SHARDS": ["mail"]}, "QUEUE_APP['SHARDS'] must be a dict, not ['mail']."),
        (
            {"SHARDS": {"mail*": 7}},
            "QUEUE_APP['SHARDS']['mail*'] is 7; use a queue or a pattern such as 'mail*', and",
        ),
        ({"SHARDS": {"mail": ""}}, "QUEUE_APP['SHARDS']['mail'] is ''; use a queue or a pattern"),
        (
            {"SHARDS": {"mail": "a:b"}},
            "is 'a:b'; use a queue or a pattern such as 'mail*', and a shard of letters,",
        ),
        ({"SHARDS": {"mail": "a b"}}, "a shard of letters, digits, '_' and '-'."),
        ({"SHARDS": {"": "post"}}, "QUEUE_APP['SHARDS'][''] is 'post'; use a queue"),
        ({"SHARDS": {3: "post"}}, "QUEUE_APP['SHARDS'][3] is 'post'; use a queue"),
        ({"KEY_PREFIX": "a:b"}, "QUEUE_APP['KEY_PREFIX'] is 'a:b'"),
    ],
)
def test_a_wrong_one_is_named_with_the_remedy(values: Any, said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.build(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_object_follows_the_setting() -> None:
    before = conf.get()
    assert conf.get() is before
    with override_settings(QUEUE_APP={"LEASE": 99}):
        assert conf.get().LEASE == 99
    assert before == conf.get()
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.LEASE = 1.0  # type: ignore[misc]


def test_the_system_check_says_the_same() -> None:
    assert checks.check_settings(None) == []
    with override_settings(QUEUE_APP={"LEESE": 1}):
        (found,) = checks.check_settings(None)
    assert found.id == "queue_app.E001"
    assert "Did you mean 'LEASE'?" in found.msg


def test_a_module_that_is_not_there_is_found_by_check() -> None:
    assert checks.check_task_modules(None) == []
    with override_settings(QUEUE_APP={"TASK_MODULES": ["tests.app.tasks", "shopp.jobs"]}):
        (found,) = checks.check_task_modules(None)
    assert found.id == "queue_app.W006"
    assert "names 'shopp.jobs', and there is no module 'shopp' here" in found.msg
    with override_settings(QUEUE_APP={"TASK_MODULES": "shopp"}):
        assert checks.check_task_modules(None) == []


@pytest.mark.parametrize(
    "engine,options,expected",
    [
        ("sqlite3", {}, ["queue_app.W002"]),
        ("sqlite3", {"transaction_mode": "deferred"}, ["queue_app.W002"]),
        ("sqlite3", {"transaction_mode": "IMMEDIATE"}, []),
        ("postgresql", {}, []),
    ],
)
def test_writers_of_a_sqlite_file_must_wait_for_each_other(
    engine: str, options: dict[str, Any], expected: list[str]
) -> None:
    databases = {"default": {"ENGINE": f"django.db.backends.{engine}", "OPTIONS": options}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "DATABASES", databases)
        assert [found.id for found in checks.check_sqlite(None)] == expected


def test_did_you_mean_is_silent_when_nothing_is_near() -> None:
    assert conf.did_you_mean("xyz", ["mail", "default"]) == ""
    assert conf.did_you_mean("MAIL", ["mail"]) == " Did you mean 'mail'?"
