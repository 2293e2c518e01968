"""A small deployment of the tests' own, in directories as administrators name them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from apps.operations.install.web_config import Place
from ens_project.env import BASE_DIR

HOST = "ens.example.com"
_ROWS = """
import json
from apps.devices.models import Mailbox
from apps.keypairs import service as keypairs
from apps.subscriptions import webhook_url
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.tokens import issue_token
from apps.vault.lookup import lookup_hmac
from tests.announce.test_webhook import EWS_ID
og = create_group("Example")
mailbox = Mailbox.objects.create(
    mail_system=add_mail_system(og, "Exchange", ["mail.example.com"]), user_hmac="u"
)
one = Subscription.objects.create(
    mailbox=mailbox, state="active", ews_url="https://mail.example.com/EWS/Exchange.asmx",
    foreign_hmac=lookup_hmac("ews-subscription", EWS_ID),
)
keypairs.rotate()
url = webhook_url.form(one.id, "c" * webhook_url.room_for_credentials(one.id))
print(json.dumps({"url": url, "token": issue_token(og, "tests")}))
"""


@dataclass(frozen=True)
class Deployment:
    """Where it stands, and what a phone and Exchange know of it."""

    place: Place
    token: str
    url: str
    """The longest webhook URL there can be."""

    @property
    def request_target(self) -> str:
        """What stands in the request line of the webhook."""
        return self.url.removeprefix(f"https://{HOST}")


def make(home: Path) -> Deployment:
    """Settings, keys, tables and rows below `home`, on SQLite."""
    data = home / "Daten für ENS" / "var"
    data.mkdir(parents=True)
    place = Place(
        root=BASE_DIR,
        python=Path(sys.executable),
        base_python=Path(sys.executable),
        data=data,
        env_file=data.parent / "ens.env",
        logs=data / "logs",
        iis=home.parent / "IIS of ENS",
    )
    Path(place.env_file).write_text(
        "ENS_SECRET_KEY=only-for-tests-0123456789-0123456789\n"
        f"ENS_LINK_ADDRESS=https://{HOST}/MailNotificationService/api/ens\n"
        f"ENS_ALLOWED_HOSTS={HOST}\n"
        f"ENS_DATA_DIR={data}\n"
        f"ENS_MASTER_KEY_FILE={data}/master.key\n"
        "ENS_TRUSTED_PROXIES=127.0.0.1\n",
        "utf-8",
    )
    for words in (["ens_master_key"], ["migrate", "-v", "0"]):
        manage(place, *words)
    made = json.loads(manage(place, "shell", "-v", "0", "-c", _ROWS).splitlines()[-1])
    token = made["token"] if isinstance(made["token"], str) else made["token"][-1]
    return Deployment(place, token, made["url"])


def manage(place: Place, *words: str) -> str:
    """Run a management command of this deployment; returns what it wrote."""
    done = subprocess.run(
        [str(place.python), "manage.py", *words],
        cwd=place.root,
        env=clean() | {"ENS_ENV_FILE": str(place.env_file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def clean() -> dict[str, str]:
    """This process's environment without the settings of the tests."""
    hidden = ("ENS_", "PYTHONPATH", "DJANGO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
