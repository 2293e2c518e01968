"""What an installation does on every platform: settings, keys, tables, the first things in them.

What needs Django's database is a management command in a process of its own, as the service
account: the installer itself runs before there are settings.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from apps.cns.channel import ChannelUnusable, load_channel
from apps.operations.config_xml import MAX_BYTES, ConfigRefused, Configuration, unseal
from apps.operations.install import env_file
from apps.operations.install.answers import Answers
from apps.operations.install.files import File, Rights, read_own, write
from apps.operations.install.runner import Completed, Runner, must
from apps.operations.install.steps import Check, Step, StepFailed
from apps.vault.master import MasterKeyInvalid, MasterKeys
from ens_project.env import BASE_DIR

_REDIS_S: Final = 5.0
_AT_WORK_S: Final = 90.0
_AGAIN_S: Final = 5.0
_PROCESSES: Final = "deployment.processes"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on this server. The settings directory is the administrators' own."""

    programs: Path
    python: Path
    settings: Path
    data: Path
    logs: Path

    @property
    def env_file(self) -> Path:
        """`ens.env`."""
        return self.settings / "ens.env"

    @property
    def master_key(self) -> Path:
        """`ENS_MASTER_KEY_FILE`: apart from the data, so that no backup holds both."""
        return self.settings / "master.key"

    @property
    def channel_key(self) -> Path:
        """`ENS_CNS_KEY_FILE`."""
        return self.settings / "cns.pem"

    @property
    def token_file(self) -> Path:
        """Where the first API token is left."""
        return self.data / "api-token.txt"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read what. `settings`: ens.env; `secret`: keys; `data`: what the service owns."""

    settings: Rights
    secret: Rights
    settings_directory: Rights
    data_directory: Rights


@dataclass(frozen=True, slots=True)
class Manage:
    """Runs management commands of the installed ENS; `prefix` makes it the service account's."""

    runner: Runner
    places: Places
    prefix: Sequence[str] = ()

    def argv(self, *words: str) -> list[str]:
        """The command line."""
        return [*self.prefix, str(self.places.python), "manage.py", *words]

    def run(
        self,
        *words: str,
        input: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run one with the settings of `ens.env`, which `environment` overrules."""
        return self.runner.run(
            self.argv(*words),
            input,
            environment={"ENS_ENV_FILE": str(self.places.env_file)} | dict(environment or {}),
            directory=self.places.programs,
        )

    def shown(self, *words: str) -> str:
        """The command line as people read it."""
        return shlex.join(self.argv(*words))


# --- what config.xml brings ---


def open_configuration(file: Path, password: str) -> Configuration:
    """What a `config.xml` holds.

    Raises:
        StepFailed: `wrong_password`, `tampered` or another code of docs/config-file.md.
    """
    try:
        with file.open("rb") as opened:
            return unseal(opened.read(MAX_BYTES + 1), password)
    except ConfigRefused as refused:
        raise StepFailed(refused.code, f"{file.name}: {refused}; nothing was changed") from None
    except OSError as error:
        reason = type(error).__name__
        raise StepFailed("file_not_read", f"{file} can't be read ({reason})") from None


def brought_by(configuration: Configuration) -> dict[str, Any]:
    """The answers that a `config.xml` gives, by dotted names; what is answered itself wins."""
    from pydantic import SecretStr

    found: dict[str, Any] = {"cns.url": configuration.cns_url}
    if configuration.cns_pins:
        found["cns.pins"] = list(configuration.cns_pins)
    if configuration.link_address:
        found["link_address"] = configuration.link_address
        found["secret_key"] = SecretStr(configuration.secret_key)
    return found


# --- checks, before anything is changed ---


def checks(answers: Answers, places: Places, configuration: Configuration | None) -> list[Check]:
    """What can be looked at beforehand on every platform."""
    found = [
        Check("Licence", lambda: _license(answers)),
        Check("Settings", lambda: _settings(answers, places)),
    ]
    if configuration is None and not answers.relay_only:
        found.append(Check("Administrator", lambda: _administrator(answers, places)))
    if answers.runs("web", "console", "relay"):
        found.append(Check("TLS certificate", lambda: certificate(answers)))
    if answers.redis.url:
        found.append(Check("Redis", lambda: _redis(answers)))
    found.append(Check("Master key", lambda: _master_key(answers, places, configuration)))
    return found


def _license(answers: Answers) -> str:
    if not (BASE_DIR / "LICENSE").is_file():
        raise StepFailed("license_missing", "The file LICENSE is missing: unpack the release anew")
    if not answers.accept_license:
        raise StepFailed("license", "Read LICENSE and accept it (--accept-license)")
    return "accepted"


def _settings(answers: Answers, places: Places) -> str:
    existing = env_file.values_of(env_file.read(places.env_file))
    problem = env_file.problem(settings_of(answers, places, existing))
    if problem:
        raise StepFailed("settings_invalid", f"{problem} (docs/settings.md)")
    return ""


def _administrator(answers: Answers, places: Places) -> str:
    if answers.administrator.password is None and not places.env_file.exists():
        raise StepFailed("administrator", "administrator.password_file is missing")
    return answers.administrator.name


def certificate(answers: Answers) -> str:
    """That the TLS files fit each other and the public host names, and until when they are good.

    Raises:
        StepFailed: `tls_missing`, `tls_unreadable`, `tls_mismatch`, `tls_name` or `tls_expired`.
    """
    if answers.tls.certificate_file is None or answers.tls.key_file is None:
        raise StepFailed("tls_missing", "tls.certificate_file and tls.key_file are missing")
    try:
        shown = x509.load_pem_x509_certificates(answers.tls.certificate_file.read_bytes())[0]
        key = load_pem_private_key(answers.tls.key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = type(error).__name__
        raise StepFailed(
            "tls_unreadable", f"The TLS files must be PEM, the key without a password ({reason})"
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != shown.public_key().public_bytes(*form):
        raise StepFailed("tls_mismatch", "tls.key_file is not the key of tls.certificate_file")
    names = _names(shown)
    hosts = [answers.host, *([answers.cns_host] if answers.runs("relay") else [])]
    for host in hosts:
        if not any(_covers(name, host) for name in names):
            told = ", ".join(names[:5]) or "no name"
            raise StepFailed("tls_name", f"The certificate is for {told}, not for {host}")
    left = shown.not_valid_after_utc.timestamp() - time.time()
    if left <= 0:
        raise StepFailed("tls_expired", "The certificate has expired")
    return f"{answers.host}, until {shown.not_valid_after_utc.date()}"


def _names(shown: x509.Certificate) -> list[str]:
    try:
        found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return found.get_values_for_type(x509.DNSName) + addresses


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()


def _redis(answers: Answers) -> str:
    url = answers.redis.event_log_url()
    if "+sentinel" in url:
        return "behind Sentinel; the diagnosis at the end asks it"
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_REDIS_S, socket_connect_timeout=_REDIS_S
        ) as client:
            version = str(client.info("server")["redis_version"])
            policy = _policy(client)
    except redis.RedisError as error:
        reason = type(error).__name__
        raise StepFailed("redis", f"Redis does not answer ({reason}): look at redis.*") from None
    if int(version.partition(".")[0]) < 7:
        raise StepFailed("redis_old", f"Redis is {version}; 7 or newer is needed")
    if policy not in ("always", ""):
        raise StepFailed(
            "redis_loses", "Redis needs `appendonly yes` and `appendfsync always` (docs/running.md)"
        )
    return version if policy else f"{version}; it does not say whether it keeps what it answered"


def _policy(client: redis.Redis) -> str:
    """`appendfsync`; empty where Redis does not say, as a hosted one may not."""
    try:
        return str(dict(client.config_get("appendfsync")).get("appendfsync", ""))
    except redis.ResponseError:
        return ""


def _master_key(answers: Answers, places: Places, configuration: Configuration | None) -> str:
    brought = configuration.master_key if configuration else ""
    taken = answers.master_key_file
    if taken is not None:
        try:
            MasterKeys.load(taken)
        except MasterKeyInvalid as error:
            raise StepFailed("master_key", str(error)) from None
        brought = taken.read_text("utf-8-sig")
    if places.master_key.exists():
        if brought and places.master_key.read_text("utf-8-sig") != brought:
            raise StepFailed("master_key", f"{places.master_key} holds another key; it stays")
        return "is there"
    if configuration is not None and not brought and not answers.relay_only:
        raise StepFailed(
            "master_key_missing",
            "This config.xml brings no master key: download one with it, or name master_key_file",
        )
    return "is brought along" if brought else "is made"


# --- steps ---


def settings_of(answers: Answers, places: Places, existing: Mapping[str, str]) -> dict[str, str]:
    """The installer's lines of `ens.env` on this server."""
    paths = {
        "ENS_DATA_DIR": places.data.as_posix(),
        "ENS_MASTER_KEY_FILE": places.master_key.as_posix(),
    }
    if answers.cns.url and not answers.relay_only:
        paths["ENS_CNS_KEY_FILE"] = places.channel_key.as_posix()
    return env_file.settings(answers, existing, paths)


class EnvFile:
    """`ens.env`: the lines that the answers give, among those that stand there."""

    title = "Settings in ens.env"

    def __init__(self, answers: Answers, places: Places, rights: Rights) -> None:
        self._answers, self._places, self._rights = answers, places, rights

    def needed(self) -> bool:
        """See Step."""
        path = self._places.env_file
        return not self._rights.hold(path) or env_file.read(path) != self._text()

    def describe(self) -> str:
        """See Step: names, since values may be secrets."""
        existing = env_file.values_of(env_file.read(self._places.env_file))
        wanted = settings_of(self._answers, self._places, existing)
        changed = [name for name, value in wanted.items() if existing.get(name) != value]
        told = f": {', '.join(changed)}" if changed else ""
        return f"write {self._places.env_file} ({self._rights}){told}"

    def apply(self) -> None:
        """See Step."""
        write(self._places.env_file, self._text().encode(), self._rights)

    def _text(self) -> str:
        text = env_file.read(self._places.env_file)
        wanted = settings_of(self._answers, self._places, env_file.values_of(text))
        return env_file.merged(text, wanted)


class Made:
    """A key file that a management command makes.

    The command is the service account's, which may not write where the file belongs: so it makes
    it among its own data, under `setting`'s name for a moment, and the installer puts it in place.
    """

    def __init__(
        self, title: str, path: Path, command: str, setting: str, manage: Manage, rights: Rights
    ) -> None:
        self.title = title
        self._path, self._command, self._setting = path, command, setting
        self._manage, self._rights = manage, rights

    def needed(self) -> bool:
        """See Step."""
        return not self._rights.hold(self._path)

    def describe(self) -> str:
        """See Step."""
        made = "" if self._path.exists() else f"run {self._manage.shown(self._command)}\n"
        return f"{made}give {self._path} its rights ({self._rights})"

    def apply(self) -> None:
        """See Step."""
        if self._path.exists():
            File(self.title, self._path, bytes, self._rights, keep=True).apply()
            return
        part = self._manage.places.data / f".{self._path.name}.new"
        try:
            part.unlink(missing_ok=True)  # of a run that was killed; nothing was sealed with it
            done = self._manage.run(self._command, environment={self._setting: str(part)})
            must(done, "key_not_made", f"{self._path} was not made")
            write(self._path, read_own(part), self._rights)
        except OSError as error:
            reason = type(error).__name__
            raise StepFailed("key_not_made", f"{self._path} was not made ({reason})") from None
        finally:
            part.unlink(missing_ok=True)


def master_key(
    answers: Answers, manage: Manage, rights: Rights, configuration: Configuration | None
) -> Step:
    """The master key file: taken over, brought by the `config.xml`, or made."""
    path, taken = manage.places.master_key, answers.master_key_file
    brought = configuration.master_key if configuration else ""
    if taken is not None:
        return File("Master key", path, taken.read_bytes, rights, keep=True)
    if brought:
        return File("Master key", path, brought.encode, rights, keep=True)
    return Made("Master key", path, "ens_master_key", "ENS_MASTER_KEY_FILE", manage, rights)


def channel_key(manage: Manage, rights: Rights, configuration: Configuration | None) -> Step:
    """The secure channel key, with which calls to the CNS are signed."""
    path = manage.places.channel_key
    if configuration is not None:
        pem = configuration.private_key + configuration.certificate
        return File("Secure channel key", path, pem.encode, rights, keep=True)
    return Made("Secure channel key", path, "cns_certificate", "ENS_CNS_KEY_FILE", manage, rights)


class Tables:
    """All tables of this release."""

    title = "Tables of the database"

    def __init__(self, manage: Manage) -> None:
        self._manage = manage

    def needed(self) -> bool:
        """See Step. What can't be asked yet is needed."""
        if not self._manage.places.env_file.exists():
            return True
        return not self._manage.run("migrate", "--check").ok

    def describe(self) -> str:
        """See Step."""
        return f"run {self._manage.shown('migrate')}"

    def apply(self) -> None:
        """See Step. Each migration is a transaction; run again, it goes on with the next."""
        done = self._manage.run("migrate", "--verbosity", "0")
        must(done, "migrate", "The tables were not made")


class First:
    """Root organization group, administrator, API token, and our certificate at our own relay."""

    title = "Root group, administrator, API token"

    def __init__(self, answers: Answers, manage: Manage) -> None:
        self._answers, self._manage = answers, manage

    def needed(self) -> bool:
        """See Step. What can't be asked yet is needed."""
        if not self._manage.places.env_file.exists():
            return True
        done = self._manage.run("ens_first", "--check")
        return not done.ok or bool(_listed(done))

    def describe(self) -> str:
        """See Step."""
        return f"run {self._manage.shown(*self._words())}"

    def apply(self) -> None:
        """See Step. All of it is one transaction."""
        given = self._answers.administrator.password
        password = given.get_secret_value() if given else ""
        done = self._manage.run(*self._words(), input=password + "\n")
        must(done, "first", "The first things in the database were not made")

    def _words(self) -> list[str]:
        answers = self._answers
        return [
            *("ens_first", "--group", answers.organization_group),
            *("--administrator", answers.administrator.name),
            *("--token-label", answers.token_label),
            *("--token-file", str(self._manage.places.token_file)),
        ]


def _listed(done: Completed) -> list[str]:
    try:
        found: list[str] = json.loads(done.out)
    except ValueError:
        return ["tables"]
    return found


# --- the end ---


def diagnosis(manage: Manage, say: Callable[[str], None], patience_s: float = _AT_WORK_S) -> bool:
    """Run `diagnose` and print it; whether nothing failed.

    Workers that have only just been started are given some time to show that they are at work.
    """
    until = time.monotonic() + patience_s
    while _only_waiting(manage) and time.monotonic() < until:
        time.sleep(_AGAIN_S)
    done = manage.run("diagnose")
    for line in (done.out or done.error).splitlines():
        say(f"  {line}")
    return done.ok


def _only_waiting(manage: Manage) -> bool:
    done = manage.run("diagnose", "--area", "deployment", "--json")
    try:
        found = json.loads(done.out)
    except ValueError:
        return False
    return [one["check"] for one in found if one["status"] == "failed"] == [_PROCESSES]


def summary(answers: Answers, places: Places, *, first: bool) -> list[str]:
    """What the administrator does next, and what to type into the app's configuration."""
    lines = []
    if answers.runs("console") and answers.link_address:
        port = answers.console.listen[0].rpartition(":")[2]
        prefix = answers.url_prefix
        lines.append(f"Console: https://{answers.host}:{port}{prefix}/console/")
    lines += _thumbprint(answers, places)
    if places.master_key.exists():
        lines.append(f"Keep a copy of {places.master_key} apart from backups of the database.")
    if first and not answers.relay_only:
        lines += [
            "Next, in the console: a mail system with the hosts of your Exchange.",
            "Type into the mail app's configuration:",
            f"  ENSLinkAddress  {answers.link_address}",
            f"  ENSAPIToken     the line in {places.token_file}",
        ]
    return lines


def _thumbprint(answers: Answers, places: Places) -> list[str]:
    if answers.relay_only or answers.runs("relay") or not places.channel_key.exists():
        return []
    try:
        found = load_channel(places.channel_key.read_bytes()).thumbprint
    except (OSError, ChannelUnusable):
        return []
    return [
        f"The operator of {answers.cns.url} must know the certificate in {places.channel_key}",
        f"  (relay_deployment add --certificate <its file>), thumbprint {found}",
    ]
