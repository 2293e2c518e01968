"""What travels through the device API, in clear and inside JWEs. OpenAPI is generated from it."""

from __future__ import annotations

import re
import unicodedata
import zoneinfo
from base64 import b64decode
from typing import Any, Final

from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import validate_email
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from rest_framework import serializers

from apps.announce.policy import LEVELS, SOUND
from apps.devices.models import DeviceState, Platform
from apps.exchange.auth.client_certificate import LONGEST
from apps.keypairs.jwe import MAX_CHARACTERS

# A coordinate on P-256 (RFC 7518, section 6.2.1.2), a time of a day, an address' SHA-256, a file.
_COORDINATE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_TIME: Final = re.compile(r"\A(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z")
_SOUND: Final = re.compile(rf"\A{SOUND.pattern}\Z")
# RFC 6750, section 2.1, and the end of the last year that there is.
_BEARER: Final = re.compile(r"\A[A-Za-z0-9._~+/-]+=*\Z")
_LATEST: Final = 253_402_300_799
_USER_ID: Final = re.compile(r"\A[0-9a-f]{64}\Z")
# An APNs device token, and an FCM registration token, which is opaque text.
_TOKENS: Final = {
    Platform.IOS: re.compile(r"(?:[0-9a-fA-F]{2}){32,100}"),
    Platform.ANDROID: re.compile(r"[A-Za-z0-9_:.-]{32,4096}"),
}
# A bundle id, and a package name: https://developer.android.com/build/configure-app-module
_APPS: Final = {
    Platform.IOS: re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,154}"),
    Platform.ANDROID: re.compile(
        r"(?=.{3,155}\Z)[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)+"
    ),
}


class Strict(serializers.Serializer):
    """Refuses members that nobody defined: a typo must not pass in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(
                    {
                        # Half a surrogate pair could not be sent back.
                        name[:40].encode("ascii", "replace").decode(): serializers.ErrorDetail(
                            "not defined", "unknown"
                        )
                        for name in unknown[:5]
                    }
                )
        return super().to_internal_value(data)


def _line(maximum: int, **options: Any) -> serializers.CharField:
    return serializers.CharField(max_length=maximum, trim_whitespace=False, **options)


# --- in clear -------------------------------------------------------------------------------
class AliveAnswer(serializers.Serializer):
    status = serializers.CharField(help_text="Always `ok`: the process answers.")
    version = serializers.CharField(help_text="The release of ENS.")


class Nothing(Strict):
    """An empty object."""


class PublicKeyAnswer(serializers.Serializer):
    kid = serializers.CharField(help_text="The key's id, for the JWE's header.")
    jwk = serializers.DictField(help_text="RFC 7517: the RSA public key.")
    expires_at = serializers.DateTimeField(help_text="Until when JWEs to this key are opened.")


class SubscribeRequest(Strict):
    jwe = _line(MAX_CHARACTERS, help_text="RFC 7516 compact JWE; its plaintext is a Subscription.")


class SubscribeAnswer(serializers.Serializer):
    device_id = serializers.UUIDField()
    device_secret = serializers.CharField(help_text="Told once; for checkin and unsubscribe.")
    state = serializers.ChoiceField(choices=["joining"])
    poll_seconds = serializers.IntegerField(help_text="Check in so often until joined.")
    signing_keys = serializers.DictField(help_text="RFC 7517: a JWK Set, to verify pushes with.")


class CheckinRequest(Strict):
    device_id = serializers.UUIDField()
    jwe = _line(
        MAX_CHARACTERS, required=False, help_text="Credentials or a new push token, if any."
    )


class CheckinAnswer(serializers.Serializer):
    state = serializers.ChoiceField(choices=DeviceState.choices)
    code = serializers.CharField(allow_null=True, help_text="Why, where the state has a reason.")
    do = serializers.ChoiceField(choices=["nothing", "wait", "send_credentials", "subscribe"])
    checkin_seconds = serializers.IntegerField(help_text="When to check in next.")
    poll_seconds = serializers.IntegerField(help_text="The same while `do` is `wait`.")
    signing_keys = serializers.DictField(help_text="RFC 7517: a JWK Set, to verify pushes with.")


class UnsubscribeRequest(Strict):
    device_id = serializers.UUIDField()


class ProblemDocument(serializers.Serializer):
    """RFC 9457."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField(required=False)


# --- inside JWEs ----------------------------------------------------------------------------
def _user_name(value: str) -> str:
    """A user name that every scheme can carry."""
    if ":" in value:
        raise serializers.ValidationError("RFC 7617 has no colon in user names")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise serializers.ValidationError("control characters")
    if not value.partition("\\")[2 if "\\" in value else 0].partition("@")[0].strip():
        raise serializers.ValidationError("a domain without a user")
    return value


class PasswordCredentials(Strict):
    """`basic` (by whatever the server offers), `ntlm` or `negotiate`."""

    type = serializers.ChoiceField(choices=["basic", "ntlm", "negotiate"])
    username = _line(256)
    password = _line(512)

    def validate_username(self, value: str) -> str:
        return _user_name(value)


class OAuthCredentials(Strict):
    type = serializers.ChoiceField(choices=["oauth"])
    token = serializers.RegexField(_BEARER, max_length=8192, trim_whitespace=False)
    expires_at = serializers.IntegerField(min_value=0, max_value=_LATEST)


class CertificateCredentials(Strict):
    """A PKCS#12 file in base64 with its password; beside it, what Basic needs."""

    type = serializers.ChoiceField(choices=["certificate"])
    pkcs12 = serializers.CharField(max_length=-(-LONGEST // 3) * 4, trim_whitespace=False)
    pkcs12_password = _line(256, allow_blank=True)
    username = _line(256, required=False)
    password = _line(512, required=False)

    def validate_username(self, value: str) -> str:
        return _user_name(value)

    def validate_pkcs12(self, value: str) -> bytes:
        try:
            return b64decode(value, validate=True)
        except ValueError:
            raise serializers.ValidationError("not base64") from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("username" in attrs) != ("password" in attrs):
            raise serializers.ValidationError("username and password come together")
        return attrs


_CREDENTIALS: Final[dict[Any, type[Strict]]] = {
    "basic": PasswordCredentials,
    "ntlm": PasswordCredentials,
    "negotiate": PasswordCredentials,
    "oauth": OAuthCredentials,
    "certificate": CertificateCredentials,
}


class AnyCredentials(serializers.Field):
    """Credentials of one of the types, each with its own members."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        kind = data.get("type") if isinstance(data, dict) else None
        if not isinstance(kind, str) or kind not in _CREDENTIALS:
            raise serializers.ValidationError(
                {"type": serializers.ErrorDetail("not a type of credentials", "invalid_choice")}
            )
        made = _CREDENTIALS[kind](data=data)
        made.is_valid(raise_exception=True)
        return dict(made.validated_data)

    def to_representation(self, value: Any) -> Any:
        raise NotImplementedError("credentials are never told")


class DeviceRef(Strict):
    uem_id = _line(128, required=False, default="")
    eas_id = _line(128, required=False, default="")
    model = _line(100, required=False, default="")
    name = _line(100, required=False, default="")
    os_version = _line(40, required=False, default="")
    app_version = _line(40, required=False, default="")


class QuietHours(Strict):
    """Daily, or on `days` (1 is Monday), from `begin` to `end`; over midnight if `end` is first."""

    days = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=7),
        required=False,
        allow_empty=False,
        max_length=7,
    )
    begin = serializers.RegexField(_TIME, trim_whitespace=False)
    end = serializers.RegexField(_TIME, trim_whitespace=False)


class Wishes(Strict):
    content = serializers.ChoiceField(choices=LEVELS, required=False, default="")
    vips = serializers.ListField(
        child=_line(320), required=False, max_length=100, help_text="Only they ring."
    )
    quiet_hours = serializers.ListField(child=QuietHours(), required=False, max_length=8)
    sound = serializers.RegexField(_SOUND, required=False, help_text="A sound file, or `none`.")
    group_conversations = serializers.BooleanField(required=False)


class _Claims(Strict):
    iat = serializers.IntegerField()
    jti = _line(128)

    def validate_content_key(self, value: dict[str, Any]) -> dict[str, str]:
        """Only a P-256 public key, cut down to what it needs; import proves it is on the curve."""
        kept = {name: str(value.get(name)) for name in ("kty", "crv", "x", "y")}
        if value.get("crv") != "P-256" or "d" in value:
            raise serializers.ValidationError("not a P-256 public key")
        if not all(_COORDINATE.fullmatch(kept[name]) for name in ("x", "y")):
            raise serializers.ValidationError("not a P-256 public key")
        try:
            ECKey.import_key(dict(kept))
        except (JoseError, ValueError, TypeError):
            raise serializers.ValidationError("not a P-256 public key") from None
        return kept

    def validate_time_zone(self, value: str) -> str:
        if value and value not in zoneinfo.available_timezones():
            raise serializers.ValidationError("not an IANA time zone")
        return value

    def validate_email(self, value: str) -> str:
        try:
            validate_email(value)
        except DjangoValidationError:
            raise serializers.ValidationError("not an address") from None
        return value


def _push_token(platform: str, value: str) -> str:
    """A push token in the one form that it is known by."""
    if not _TOKENS[Platform(platform)].fullmatch(value):
        raise serializers.ValidationError({"push_token": "not a token of this platform"})
    return value.lower() if platform == Platform.IOS else value


class SubscriptionClaims(_Claims):
    """The plaintext of the JWE in `subscribe`."""

    email = _line(320)
    credentials = AnyCredentials()
    ews_url = _line(500, required=False, default="")
    platform = serializers.ChoiceField(choices=Platform.choices)
    app_id = _line(155)
    push_token = _line(4096)
    content_key = serializers.DictField(required=False)
    device_ref = DeviceRef(required=False)
    time_zone = _line(64, required=False, default="")
    wishes = Wishes(required=False)
    accounts = serializers.ListField(
        child=serializers.RegexField(_USER_ID, trim_whitespace=False), required=False, max_length=50
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        platform = attrs["platform"]
        if not _APPS[Platform(platform)].fullmatch(attrs["app_id"]):
            raise serializers.ValidationError({"app_id": "not an app's name on this platform"})
        return attrs | {"push_token": _push_token(platform, attrs["push_token"])}


class CheckinClaims(_Claims):
    """The plaintext of the JWE in `checkin`; `context` holds the device's `platform`."""

    device_id = serializers.UUIDField()
    counter = serializers.IntegerField(min_value=1, max_value=2**62)
    email = _line(320, required=False)
    credentials = AnyCredentials(required=False)
    content_key = serializers.DictField(required=False)
    push_token = _line(4096, required=False)
    time_zone = _line(64, required=False)
    wishes = Wishes(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("credentials" in attrs) != ("email" in attrs):
            raise serializers.ValidationError("email and credentials come together")
        if "push_token" in attrs:
            token = _push_token(self.context["platform"], attrs["push_token"])
            return attrs | {"push_token": token}
        return attrs
