"""Push apps with their keys sealed and opened."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from apps.relay.models import Deployment, PushApp
from apps.relay.providers.apns.token import SigningKey
from apps.vault.wrapping import unwrap, wrap

_TABLE = "relay_push_app"
_PURPOSE = "provider_key"


class KeyUnusable(Exception):
    """The file is not a provider key as Apple hands it out; the text says why."""


def store_apns_app(app: str, key: SigningKey, *, sandbox: bool) -> PushApp:
    """Add an iOS app, or replace the key of one that exists; who shares it stays as it was.

    Raises:
        KeyUnusable: the key isn't a P-256 private key in PEM (PKCS #8, no password).
    """
    _check_key(key.p8)
    stored, _ = PushApp.objects.update_or_create(
        platform=PushApp.Platform.APNS,
        app=app,
        defaults={
            "key_id": key.key_id,
            "team_id": key.team_id,
            "sealed_key": wrap(key.p8, table=_TABLE, row=f"apns:{app}", purpose=_PURPOSE),
            "sandbox": sandbox,
            "proven_at": None,
        },
    )
    return stored


def shared_apns_apps(deployment: Deployment, apps: Iterable[str]) -> dict[str, PushApp]:
    """Those of the named apps that this deployment may push to, by bundle id. One query."""
    found = deployment.push_apps.filter(platform=PushApp.Platform.APNS, app__in=set(apps))
    return {each.app: each for each in found}


def signing_key(app: PushApp) -> SigningKey:
    """The app's opened provider key.

    Raises:
        apps.vault.wrapping.UnwrapFailed: the sealed key doesn't open.
    """
    p8 = unwrap(app.sealed_key, table=_TABLE, row=f"apns:{app.app}", purpose=_PURPOSE)
    return SigningKey(app.key_id, app.team_id, p8)


def _check_key(p8: bytes) -> None:
    try:
        key = load_pem_private_key(p8, password=None)
    except (ValueError, TypeError):
        raise KeyUnusable("not a private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise KeyUnusable("not a P-256 key; Apple's AuthKey_….p8 files are")
