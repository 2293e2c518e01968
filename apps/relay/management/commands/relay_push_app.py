"""`manage.py relay_push_app`: the apps this relay can push to, and who shares them."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from apps.relay.batch import APPS
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Checked, CredentialsUnfit
from apps.relay.push_apps import store
from apps.relay.uploads import WORDS, Upload, check_upload

# By the option that names the file: its kind, the platform it is for, and through whom it goes.
_FILES = {
    "certificate": ("certificate", PushApp.Platform.APNS, PushApp.Provider.APNS),
    "key_file": ("key", PushApp.Platform.APNS, PushApp.Provider.APNS),
    "service_account": ("service_account", PushApp.Platform.FCM, PushApp.Provider.FCM),
    "sns_apns": ("sns", PushApp.Platform.APNS, PushApp.Provider.SNS),
    "sns_fcm": ("sns", PushApp.Platform.FCM, PushApp.Provider.SNS),
}


class Command(BaseCommand):
    """Adds push apps, shares them with deployments, lists them. Keys are never shown again."""

    help = "Add, replace, share, list or remove the apps this relay can push to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """An action, each with its own options."""
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="add an app")
        _credentials(add)
        add.add_argument(
            "--share", action="append", default=[], help="deployment that may use it; repeatable"
        )
        replace = actions.add_parser(
            "replace", help="replace an app's credentials; devices and sharing stay as they are"
        )
        _credentials(replace)
        for name, text in (("share", "let deployments use it"), ("unshare", "no longer let them")):
            action = actions.add_parser(name, help=text)
            _which(action)
            action.add_argument("--with", required=True, action="append", dest="share")
        _which(actions.add_parser("remove", help="forget an app and its credentials"))
        actions.add_parser("list", help="list all apps")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one action; raises CommandError with one clear line."""
        action = options["action"]
        if action == "list":
            for app in PushApp.objects.order_by("platform", "app"):
                self._show(app)
        elif action == "remove":
            app = _existing(options)
            app.delete()
            self.stdout.write(f"{app} and its credentials are gone.")
        elif action in ("add", "replace"):
            self._store(action, options)
        else:
            self._share(action, options)

    def _store(self, action: str, options: dict[str, Any]) -> None:
        deployments = [_deployment(name) for name in options.get("share", ())]
        option = next(name for name in _FILES if options[name] is not None)
        kind, platform, provider = _FILES[option]
        if not APPS[platform].fullmatch(options["app"]):
            raise CommandError("--app is a bundle id or package name, as com.example.mail")
        exists = PushApp.objects.filter(platform=platform, app=options["app"]).exists()
        if exists and action == "add":
            raise CommandError(f"there is a push app {options['app']!r} already: use replace")
        if not exists and action == "replace":
            raise CommandError(f"there is no push app {options['app']!r}: use add")
        checked = _checked(kind, platform, options[option], options)
        with transaction.atomic():
            app = store(platform, options["app"], provider, checked, sandbox=options["sandbox"])
            app.deployments.add(*deployments)
        self._show(app)

    def _share(self, action: str, options: dict[str, Any]) -> None:
        deployments = [_deployment(name) for name in options["share"]]
        app = _existing(options)
        if action == "unshare":
            app.deployments.remove(*deployments)
        else:
            app.deployments.add(*deployments)
        self._show(app)

    def _show(self, app: PushApp) -> None:
        names = ", ".join(app.deployments.order_by("name").values_list("name", flat=True))
        said = " ".join(f"{name}={value}" for name, value in app.shown.items())
        state = "sandbox" if app.sandbox else "production"
        if app.expires_at is not None:
            days = (app.expires_at - timezone.now()).days
            state += f", expires {app.expires_at:%Y-%m-%d} (in {days} days)"
        if not app.proven_at:
            state += ", no push accepted yet"
        if app.trouble:
            state += f", TROUBLE since {app.trouble_at:%Y-%m-%d %H:%M} UTC: {app.trouble}"
        through = "" if app.provider == app.platform else f" through {app.provider}"
        self.stdout.write(f"{app}{through}  {said}  {state}  shared with: {names or 'nobody'}")


def _credentials(action: ArgumentParser) -> None:
    action.add_argument("--app", required=True, help="bundle id or package name")
    file = action.add_mutually_exclusive_group(required=True)
    file.add_argument("--certificate", type=Path, help="iOS: push certificate and key as .p12")
    file.add_argument("--key-file", type=Path, help="iOS: Apple's AuthKey_….p8")
    file.add_argument("--service-account", type=Path, help="Android: Google's key file, JSON")
    for phones in ("apns", "fcm"):
        file.add_argument(
            f"--sns-{phones}",
            type=Path,
            help=f"through Amazon SNS to {phones}: a JSON file as in docs/push-apps.md",
        )
    action.add_argument(
        "--password-file",
        type=Path,
        help="the first line of this file is the .p12's password; else it is asked for",
    )
    action.add_argument("--key-id", default="", help="with --key-file: the key's 10 characters")
    action.add_argument("--team-id", default="", help="with --key-file: the team's 10 characters")
    action.add_argument("--sandbox", action="store_true", help="iOS: for development builds")


def _which(action: ArgumentParser) -> None:
    action.add_argument("--app", required=True)
    action.add_argument(
        "--platform", choices=PushApp.Platform.values, default=PushApp.Platform.APNS
    )


def _checked(kind: str, platform: str, file: Path, options: dict[str, Any]) -> Checked:
    upload = Upload(
        kind,
        options["app"],
        _content(file),
        password=_password(options["password_file"]) if kind == "certificate" else "",
        key_id=options["key_id"],
        team_id=options["team_id"],
        sandbox=options["sandbox"],
        platform=platform,
    )
    try:
        return check_upload(upload)
    except CredentialsUnfit as error:
        raise CommandError(f"{file}: {error.code}: {WORDS[error.code]}") from None


def _password(file: Path | None) -> str:
    """Never from the command line, which every user of the machine can read."""
    if file is not None:
        return _content(file).decode("utf-8-sig", "replace").partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise CommandError("--password-file is needed where nobody can be asked")
    return getpass.getpass("Password of the .p12 file: ")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} can't be read ({type(error).__name__})") from None


def _existing(options: dict[str, Any]) -> PushApp:
    found = PushApp.objects.filter(platform=options["platform"], app=options["app"]).first()
    if found is None:
        raise CommandError(f"there is no push app {options['app']!r}")
    return found


def _deployment(name: str) -> Deployment:
    found = Deployment.objects.filter(name=name, revoked_at=None).first()
    if found is None:
        raise CommandError(f"there is no deployment {name!r} that isn't revoked")
    return found
