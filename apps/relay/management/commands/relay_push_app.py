"""`manage.py relay_push_app`: the apps this relay can push to, and who shares them."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from apps.relay.batch import APP
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import CredentialsUnfit
from apps.relay.providers.apns.check import check_key
from apps.relay.push_apps import store


class Command(BaseCommand):
    """Adds push apps, shares them with deployments, lists them. Keys are never shown again."""

    help = "Add, share or list the apps this relay can push to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Four actions, each with its own options."""
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="add an iOS app, or replace its key")
        add.add_argument("--app", required=True, help="bundle id, as com.example.mail")
        add.add_argument("--key-file", required=True, type=Path, help="Apple's AuthKey_….p8")
        add.add_argument("--key-id", required=True, help="the key's 10 characters")
        add.add_argument("--team-id", required=True, help="the team's 10 characters")
        add.add_argument("--sandbox", action="store_true", help="for development builds")
        add.add_argument(
            "--share", action="append", default=[], help="deployment that may use it; repeatable"
        )
        for name, text in (("share", "let deployments use it"), ("unshare", "no longer let them")):
            action = actions.add_parser(name, help=text)
            action.add_argument("--app", required=True)
            action.add_argument("--with", required=True, action="append", dest="share")
        actions.add_parser("list", help="list all apps")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one action; raises CommandError with one clear line."""
        if options["action"] == "list":
            self._list()
            return
        deployments = [_deployment(name) for name in options["share"]]
        with transaction.atomic():
            app = _store(options) if options["action"] == "add" else _existing(options["app"])
            if options["action"] == "unshare":
                app.deployments.remove(*deployments)
            else:
                app.deployments.add(*deployments)
        self._show(app)

    def _list(self) -> None:
        for app in PushApp.objects.order_by("platform", "app"):
            self._show(app)

    def _show(self, app: PushApp) -> None:
        names = ", ".join(app.deployments.order_by("name").values_list("name", flat=True))
        where = "sandbox" if app.sandbox else "production"
        proven = "" if app.proven_at else ", no push accepted yet"
        summary = " ".join(f"{name}={value}" for name, value in app.summary.items())
        self.stdout.write(f"{app}  {summary}  {where}{proven}  shared with: {names or 'nobody'}")


def _store(options: dict[str, Any]) -> PushApp:
    if not APP.fullmatch(options["app"]):
        raise CommandError("--app is a bundle id, as com.example.mail")
    file: Path = options["key_file"]
    try:
        checked = check_key(file.read_bytes(), options["key_id"], options["team_id"])
    except OSError as error:
        raise CommandError(f"{file} can't be read ({type(error).__name__})") from None
    except CredentialsUnfit as error:
        raise CommandError(f"{file}: {error.code}: {_WORDS[error.code]}") from None
    return store("apns", options["app"], "apns", checked, sandbox=options["sandbox"])


_WORDS = {
    "key_id_malformed": "--key-id has 10 capital letters and digits",
    "team_id_malformed": "--team-id has 10 capital letters and digits",
    "key_unreadable": "not a private key in PEM without a password",
    "key_not_p256": "not a P-256 key; Apple's AuthKey_….p8 files are",
}


def _existing(app: str) -> PushApp:
    found = PushApp.objects.filter(platform=PushApp.Platform.APNS, app=app).first()
    if found is None:
        raise CommandError(f"there is no push app {app!r}")
    return found


def _deployment(name: str) -> Deployment:
    found = Deployment.objects.filter(name=name, revoked_at=None).first()
    if found is None:
        raise CommandError(f"there is no deployment {name!r} that isn't revoked")
    return found
