from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.db.models.signals import post_migrate


class VaultConfig(AppConfig):
    name = "apps.vault"
    label = "vault"

    def ready(self) -> None:
        post_migrate.connect(_after_migrate, sender=self, dispatch_uid="vault.keys")


def _after_migrate(using: str, apps: Any = installed_apps, **_signal: Any) -> None:
    from apps.vault import lookup, urlmac
    from apps.vault.keys import make_missing

    try:
        apps.get_model("vault", "VaultKey")
    except LookupError:  # migrated back to before the vault had keys
        return
    make_missing(using)
    # A flush has replaced the keys that this process may have in its memory.
    lookup.forget()
    urlmac.forget()
