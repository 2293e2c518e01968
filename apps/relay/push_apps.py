"""Push apps with their credentials sealed and opened."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Checked, OpenApp
from apps.relay.providers.apns.credentials import pack_key
from apps.relay.providers.apns.token import SigningKey
from apps.vault.wrapping import unwrap, wrap

_TABLE = "relay_push_app"
_PURPOSE = "provider_key"
_KNOWN_S = 1.0
# By the deployment's certificate and the platform: when it was read, and what was found.
_known: dict[tuple[str, str], tuple[float, dict[str, PushApp]]] = {}


def store(platform: str, app: str, provider: str, checked: Checked, *, sandbox: bool) -> PushApp:
    """Add an app, or replace the credentials of one that exists; who shares it stays as it was.

    Effective in every process after a second; what is under way ends with the old credentials.
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
    _known.clear()
    return stored


def shared_apps(deployment: Deployment, platform: str, apps: Iterable[str]) -> dict[str, PushApp]:
    """Those of the named apps that this deployment may push to, by name.

    As they were at most a second ago: asking the database costs more than all else that a call
    with one notification does. An app that isn't known yet is looked for at once.
    """
    wanted = set(apps)
    key = (deployment.thumbprint, platform)
    read_at, known = _known.get(key, (0.0, {}))
    now = time.monotonic()
    if now - read_at > _KNOWN_S or not wanted <= known.keys():
        known = {each.app: each for each in deployment.push_apps.filter(platform=platform)}
        _known[key] = now, known
    return {name: known[name] for name in wanted & known.keys()}


def opened(app: PushApp) -> OpenApp:
    """The app with its credentials opened.

    Release 0.1 sealed Apple's .p8 alone, its ids beside it in clear. Such rows stay as they are
    until the next upload, for relays of both releases share them during an upgrade.

    Raises:
        apps.vault.wrapping.UnwrapFailed: the sealed credentials don't open.
    """
    credentials = unwrap(
        app.sealed_key, table=_TABLE, row=f"{app.platform}:{app.app}", purpose=_PURPOSE
    )
    if app.provider == PushApp.Provider.APNS and not credentials.startswith(b"{"):
        credentials = pack_key(SigningKey(app.key_id, app.team_id, credentials))
    return OpenApp(app.pk, app.app, app.sandbox, credentials, app.revision)
