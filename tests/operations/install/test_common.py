"""What is the same on every platform: config.xml, the diagnosis at the end, the summary."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from apps.cns.channel import load_channel, make_channel
from apps.operations import config_xml
from apps.operations.config_xml import Configuration
from apps.operations.install import common, main
from apps.operations.install.answers import Answers, AnswersInvalid, make
from apps.operations.install.common import Manage, Places
from apps.operations.install.files import Rights
from apps.operations.install.runner import Completed
from apps.operations.install.steps import StepFailed
from tests.operations.install.recorder import Recorder
from tests.redis import RedisServer, redis_server  # noqa: F401

LINK = "https://ens.example.com/MailNotificationService/api/ens"
PASSWORD = "seventeen blue lanterns"
KEY = "k1:" + "A" * 43 + "=\n"


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    key, certificate = make_channel("test")
    return Configuration(
        og_guid=uuid.uuid4(),
        og_name="Example",
        cns_url="https://cns.example.com",
        cns_pins=("A" * 43 + "=",),
        key_label="test",
        thumbprint=load_channel(key + certificate).thumbprint,
        certificate=certificate.decode(),
        private_key=key.decode(),
        registered=True,
        link_address=LINK,
        secret_key="s" * 40,
        master_key=KEY,
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("etc", "data"):
        (tmp_path / name).mkdir()
    return Places(tmp_path, tmp_path / "py", tmp_path / "etc", tmp_path / "data", tmp_path / "log")


def test_what_the_file_brings_is_not_asked_and_can_be_overruled(
    configuration: Configuration,
) -> None:
    brought = common.brought_by(configuration)
    made = make(brought | {"components": "worker"})
    assert (made.link_address, made.cns.url) == (LINK, "https://cns.example.com")
    assert made.secret_key is not None and made.secret_key.get_secret_value() == "s" * 40
    assert "s" * 40 not in repr(made)
    without = replace(configuration, link_address="", secret_key="", master_key="")
    assert set(common.brought_by(without)) == {"cns.url", "cns.pins"}


def test_a_wrong_password_and_a_changed_file_have_their_codes(
    configuration: Configuration, tmp_path: Path
) -> None:
    file = tmp_path / "config.xml"
    file.write_bytes(config_xml.seal(configuration, PASSWORD))
    assert common.open_configuration(file, PASSWORD) == configuration
    with pytest.raises(StepFailed) as failed:
        common.open_configuration(file, "x")
    assert failed.value.code == "wrong_password"
    with pytest.raises(StepFailed) as failed:
        common.open_configuration(tmp_path / "none.xml", "x")
    assert failed.value.code == "file_not_read"


def refused(answers: Answers, places: Places, configuration: Configuration | None) -> str:
    (check,) = [
        one for one in common.checks(answers, places, configuration) if one.title == "Master key"
    ]
    try:
        return check.run()
    except StepFailed as failed:
        return failed.code


def test_the_master_key_is_the_deployments(configuration: Configuration, places: Places) -> None:
    answers = make({"link_address": LINK, "components": "worker"})
    assert refused(answers, places, None) == "is made"
    assert refused(answers, places, configuration) == "is brought along"
    none = replace(configuration, master_key="")
    assert refused(answers, places, none) == "master_key_missing"
    places.master_key.write_text(KEY)
    assert refused(answers, places, configuration) == "is there"
    places.master_key.write_text(KEY.replace("k1", "k2"))
    assert refused(answers, places, configuration) == "master_key"
    step = common.master_key(answers, Manage(Recorder(), places), Rights(0o600), configuration)
    step.apply()
    assert places.master_key.read_text() == KEY.replace("k1", "k2")


def diagnose(*answers: list[tuple[str, str]]) -> Any:
    """`diagnose` says these in turn: names of checks and their states."""
    left = list(answers)

    def run(argv: Sequence[str]) -> Completed | None:
        if "--json" not in argv:
            return Completed(0, "All is well\n")
        found = left.pop(0) if len(left) > 1 else left[0]
        return Completed(1, json.dumps([{"check": name, "status": s} for name, s in found]))

    return run


def test_workers_get_time_to_show_themselves(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "_AGAIN_S", 0.0)
    waiting, well = [("deployment.processes", "failed")], [("deployment.processes", "ok")]
    record = Recorder(diagnose(waiting, waiting, well))
    said: list[str] = []
    assert common.diagnosis(Manage(record, places), said.append)
    assert said == ["  All is well"]
    assert len(record.commands) == 4
    # What else is wrong won't mend itself.
    record = Recorder(diagnose([*waiting, ("deployment.database", "failed")]))
    assert common.diagnosis(Manage(record, places), said.append)
    assert len(record.commands) == 2


def test_the_summary_says_what_to_type_and_no_secret(
    configuration: Configuration, places: Places
) -> None:
    answers = make({"link_address": LINK, "cns.url": "https://cns.example.com"})
    places.channel_key.write_text(configuration.private_key + configuration.certificate)
    places.token_file.write_text("ens_secret")
    text = "\n".join(common.summary(answers, places, first=True))
    assert LINK in text and str(places.token_file) in text
    assert "ens.example.com:8443/MailNotificationService/console/" in text
    assert configuration.thumbprint in text
    assert "ens_secret" not in text and "PRIVATE" not in text


def test_first_or_further_but_not_both(tmp_path: Path) -> None:
    given = {"link_address": LINK}
    with pytest.raises(AnswersInvalid, match="either --first"):
        main.install(main.Wish(), given, Recorder(), print)
    with pytest.raises(AnswersInvalid, match="config_password_file"):
        main.install(main.Wish(), given | {"config_xml": "x.xml"}, Recorder(), print)


def test_redis_must_keep_what_it_answered(redis_server: RedisServer, places: Places) -> None:  # noqa: F811
    answers = make({"link_address": LINK, "redis.url": f"redis://127.0.0.1:{redis_server.port}"})
    (check,) = [one for one in common.checks(answers, places, None) if one.title == "Redis"]
    assert int(check.run().partition(".")[0]) >= 7
    with Redis(port=redis_server.port) as client:
        client.config_set("appendfsync", "everysec")
        try:
            with pytest.raises(StepFailed) as failed:
                check.run()
            assert failed.value.code == "redis_loses"
        finally:
            client.config_set("appendfsync", "always")
