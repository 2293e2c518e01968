"""Push apps with their credentials sealed and opened."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Checked, OpenApp
from apps.vault.wrapping import unwrap, wrap

_TABLE = "relay_push_app"
_PURPOSE = "provider_key"


def store(platform: str, app: str, provider: str, checked: Checked, *, sandbox: bool) -> PushApp:
    """Add an app, or replace the credentials of one that exists; who shares it stays as it was.

    Effective with every process' next call; what is under way ends with the old credentials.
    """
    stored, _ = PushApp.objects.update_or_create(
        platform=platform,
        app=app,
        defaults={
            "provider": provider,
            "sealed_key": wrap(
                checked.credentials, table=_TABLE, row=f"{platform}:{app}", purpose=_PURPOSE
            ),
            "revision": secrets.token_hex(16),
            "summary": dict(checked.summary),
            "expires_at": checked.expires_at,
            "sandbox": sandbox,
            "proven_at": None,
            "trouble": "",
            "trouble_at": None,
            "expiry_told_days": None,
        },
    )
    return stored


def shared_apps(deployment: Deployment, platform: str, apps: Iterable[str]) -> dict[str, PushApp]:
    """Those of the named apps that this deployment may push to, by name. One query."""
    found = deployment.push_apps.filter(platform=platform, app__in=set(apps))
    return {each.app: each for each in found}


def opened(app: PushApp) -> OpenApp:
    """The app with its credentials opened.

    Raises:
        apps.vault.wrapping.UnwrapFailed: the sealed credentials don't open.
    """
    credentials = unwrap(
        app.sealed_key, table=_TABLE, row=f"{app.platform}:{app.app}", purpose=_PURPOSE
    )
    return OpenApp(app.pk, app.app, app.sandbox, credentials, app.revision)
