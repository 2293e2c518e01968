"""The device API. Nothing here waits for Exchange, for a push service or for a new RSA key."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.announce.policy import Quiet, Wishes, minutes_after_midnight, vip_hmac
from apps.api import limits, schemas
from apps.api.parsers import SmallJSONParser
from apps.api.problems import CONTENT_TYPE, Problem
from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import LogUnavailable
from apps.exchange.auth.client_certificate import CertificateUnusable, read_client_certificate
from apps.exchange.interface import Credentials
from apps.keypairs import service as keypairs
from apps.keypairs import signing
from apps.subscriptions import checkin, ending, joining
from apps.subscriptions.poke import wake_join
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants import mail_systems, tokens
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.inherited import settings_for
from apps.tenants.models import OrganizationGroup

_API_TOKEN: Any = [{"apiToken": []}]
_DEVICE_SECRET: Any = [{"deviceSecret": []}]


def _or_problems(answers: dict[int, Any], *statuses: int) -> dict[Any, Any]:
    """OpenAPI responses: these answers, or problem documents with these statuses."""
    problems = {(status, CONTENT_TYPE): schemas.ProblemDocument for status in statuses}
    return answers | problems


class DeviceView(APIView):
    """A call with a small JSON body and a bearer: the API token, or the device's own secret."""

    parser_classes = [SmallJSONParser]

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(*args, **kwargs)
        answer["Cache-Control"] = "no-store"  # answers hold secrets and what is true only now
        return answer

    def bearer(self) -> str:
        """The Authorization header's bearer token, or an empty string."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def organization_group(self) -> OrganizationGroup:
        """The OG that the API token belongs to.

        Raises:
            Problem: `unauthorized`, or `too_many_attempts` for an address that keeps guessing.
        """
        og = tokens.authenticate(self.bearer())
        if og is None:
            # Only who fails is limited: behind one address others may hold good tokens.
            address = limits.client_address(self.request._request)
            limits.FAILURES.check(address)
            limits.FAILURES.count(address)
            raise Problem("unauthorized")
        return og

    def device(self, device_id: uuid.UUID) -> Device:
        """The calling device.

        Not limited: 256 bits can't be guessed, and after a restore a whole fleet is unknown.

        Raises:
            Problem: `unknown_device`, whichever of id and secret is wrong.
        """
        device = registry.authenticate(device_id, self.bearer())
        if device is None:
            raise Problem("unknown_device")
        return device

    def opened(self, og: OrganizationGroup, jwe: str) -> dict[str, Any]:
        """A JWE's claims; call inside the transaction that does what they ask for."""
        try:
            return keypairs.open_jwe(og, jwe)
        except keypairs.JweRefused as error:
            raise Problem(error.code) from None


def _checked(serializer: type[serializers.Serializer], data: Any, **context: Any) -> dict[str, Any]:
    made = serializer(data=data, context=context)
    made.is_valid(raise_exception=True)
    return dict(made.validated_data)


class Alive(APIView):
    """Whether this process answers; touches no database."""

    @extend_schema(operation_id="alive", responses=schemas.AliveAnswer, auth=[])
    def get(self, request: Request) -> Response:
        return Response({"status": "ok", "version": settings.ENS_VERSION})


class PublicKey(DeviceView):
    """The public key to encrypt credentials to."""

    @extend_schema(
        operation_id="publickey",
        request=schemas.Nothing,
        responses=_or_problems({200: schemas.PublicKeyAnswer}, 400, 401, 413, 429, 503),
        auth=_API_TOKEN,
    )
    def post(self, request: Request) -> Response:
        og = self.organization_group()
        _checked(schemas.Nothing, request.data)
        try:
            key = keypairs.current_public_key(og)
        except keypairs.NoKeyReady:
            raise Problem("no_key_ready", retry_after_s=5) from None
        return Response(
            schemas.PublicKeyAnswer(
                {"kid": key.kid, "jwk": key.jwk, "expires_at": key.expires_at}
            ).data
        )


class Subscribe(DeviceView):
    """A device wants to hear of a mailbox's new mail."""

    @extend_schema(
        operation_id="subscribe",
        request=schemas.SubscribeRequest,
        responses=_or_problems({202: schemas.SubscribeAnswer}, 400, 401, 403, 413, 429, 503),
        auth=_API_TOKEN,
    )
    def post(self, request: Request) -> Response:
        og = self.organization_group()
        if not settings_for(og, SubscriptionSettings).enabled:
            raise Problem("not_enabled")
        jwe = _checked(schemas.SubscribeRequest, request.data)["jwe"]
        with _available(), _counting_failures(self.request):
            claims = self._open(og, jwe)
            limits.JOINS.check(self._join_key(claims))
            limits.JOINS.count(self._join_key(claims))
            device, secret = self._begin(og, claims, _credentials(claims))
        wake_join()
        return Response(
            {
                "device_id": str(device.id),
                "device_secret": secret,
                "state": "joining",
                "poll_seconds": checkin.POLL_SECONDS,
                "signing_keys": signing.public_keys(og),
            },
            status=202,
        )

    def _open(self, og: OrganizationGroup, jwe: str) -> dict[str, Any]:
        """Open the JWE once; that it was opened is kept whatever becomes of the rest."""
        with transaction.atomic():
            claims = self.opened(og, jwe)
        return _checked(schemas.SubscriptionClaims, claims)

    @transaction.atomic
    def _begin(
        self, og: OrganizationGroup, claims: dict[str, Any], credentials: Credentials
    ) -> tuple[Device, str]:
        try:
            given = claims["ews_url"] or None
            system, ews_url = mail_systems.mail_system_for(og, given, claims["email"])
        except EwsUrlRefused as refused:
            missing = refused.code == "ews_url_missing"
            raise Problem("ews_url_missing" if missing else "ews_url_not_allowed") from None
        mailbox = registry.mailbox_for(system, claims["email"])
        enrolled = registry.enrol(og, mailbox, _description(claims, ews_url))
        if enrolled is None:
            raise Problem("device_blocked")
        device, secret = enrolled
        get_log().append(joining.begin(device, claims["email"], credentials))
        return device, secret

    def _join_key(self, claims: dict[str, Any]) -> str:
        address = limits.client_address(self.request._request)
        return f"{registry.user_id(claims['email'])}:{address}"


class Checkin(DeviceView):
    """A device's regular call: it hears what to do, and may bring what it was asked for."""

    @extend_schema(
        operation_id="checkin",
        request=schemas.CheckinRequest,
        responses=_or_problems({200: schemas.CheckinAnswer}, 400, 401, 413, 429, 503),
        auth=_DEVICE_SECRET,
    )
    def post(self, request: Request) -> Response:
        asked = _checked(schemas.CheckinRequest, request.data)
        device = self.device(asked["device_id"])
        if "jwe" in asked:
            with _available(), _counting_failures(self.request):
                self._take(device, asked["jwe"])
            device.refresh_from_db()
        told = checkin.instruct(device)
        return Response(
            {
                "state": told.state,
                "code": told.code or None,
                "do": told.do,
                "checkin_seconds": told.checkin_seconds,
                "poll_seconds": told.poll_seconds,
                "signing_keys": signing.public_keys(device.og),
            }
        )

    def _take(self, device: Device, jwe: str) -> None:
        with transaction.atomic():
            raw = self.opened(device.og, jwe)
        claims = _checked(schemas.CheckinClaims, raw, platform=device.platform)
        if claims["device_id"] != device.id:
            raise Problem("jwe_other_device")
        credentials = None
        if "credentials" in claims:
            self._limit_proofs(claims["email"])
            # Before the transaction: opening a certificate takes its time.
            credentials = _credentials(claims)
        with transaction.atomic():
            if not registry.raise_counter(device, claims["counter"]):
                raise Problem("counter_not_rising")
            self._take_address(device, claims)
            if "wishes" in claims:
                wished = claims["wishes"]
                registry.replace_wishes(device, wished["content"], _wishes(wished).to_json())
            if "time_zone" in claims:
                registry.replace_time_zone(device, claims["time_zone"])
            if credentials is not None:
                if registry.user_hmac(claims["email"]) != device.mailbox.user_hmac:
                    raise Problem("not_this_mailbox")
                get_log().append(joining.begin(device, claims["email"], credentials))
        if credentials is not None:
            wake_join()

    def _take_address(self, device: Device, claims: dict[str, Any]) -> None:
        """Take where content goes and to whose key; to a new one not before a new proof.

        The secret alone, which whatever ends TLS before us can read, must not lead content away;
        nor may the credentials that come next vouch for what they did not come with.
        """
        led_away = False
        if "push_token" in claims:
            moved = registry.replace_push_token(device, claims["push_token"])
            # What is encrypted is of no use to another phone.
            led_away = moved and not device.content_key
        if "content_key" in claims:
            led_away |= registry.replace_content_key(device, claims["content_key"])
        if led_away:
            hours = settings_for(device.og, SubscriptionSettings).proof_hours
            registry.lead_away(device, timedelta(hours=hours))
        if "credentials" in claims and (led_away or device.led_away_at is not None):
            if "push_token" not in claims:
                raise Problem("address_needed")
            if "content_key" not in claims:
                registry.forget_content_key(device)
            registry.lead_home(device)

    def _limit_proofs(self, email: str) -> None:
        address = limits.client_address(self.request._request)
        key = f"{registry.user_id(email)}:{address}"
        limits.JOINS.check(key)
        limits.JOINS.count(key)


class Unsubscribe(DeviceView):
    """A device goes for good. Idempotent: 204 for one we no longer know."""

    @extend_schema(
        operation_id="unsubscribe",
        request=schemas.UnsubscribeRequest,
        responses=_or_problems({204: None}, 400, 413),
        auth=_DEVICE_SECRET,
    )
    def post(self, request: Request) -> Response:
        asked = _checked(schemas.UnsubscribeRequest, request.data)
        device = registry.authenticate(asked["device_id"], self.bearer())
        if device is not None:
            ending.leave(device)
        return Response(status=204)


class _available:
    """Turns a database or event log that can't take it into 503 `unavailable`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and issubclass(kind, LogUnavailable | DatabaseError):
            raise Problem("unavailable", retry_after_s=10) from None


class _counting_failures:
    """Counts what a caller got wrong against its address.

    Not what happens to honest phones, many at once: a key that was replaced, a clock that is off,
    a token that has expired.
    """

    _HONEST = frozenset(
        {
            "jwe_unknown_key",
            "jwe_expired_key",
            "jwe_stale",
            "credentials_expired",
            "certificate_expired",
        }
    )

    def __init__(self, request: Request) -> None:
        self._address = limits.client_address(request._request)

    def __enter__(self) -> None:
        limits.BAD_JWES.check(self._address)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        refused = isinstance(error, Problem) and error.status_code == 400
        honest = isinstance(error, Problem) and error.problem_code in self._HONEST
        if isinstance(error, serializers.ValidationError) or (refused and not honest):
            limits.BAD_JWES.count(self._address)


def _credentials(claims: dict[str, Any]) -> Credentials:
    """The credentials of a JWE.

    Raises:
        Problem: `credentials_expired`, `certificate_expired` or `certificate_unusable`.
    """
    given = dict(claims["credentials"])
    if given["type"] == "certificate":
        try:
            opened = read_client_certificate(given.pop("pkcs12"), given.pop("pkcs12_password"))
        except CertificateUnusable as error:
            if error.code == "busy":
                raise Problem("unavailable", retry_after_s=10) from None
            raise Problem(error.code) from None
        given |= {"certificate": opened.pem, "expires_at": opened.expires_at}
    credentials = Credentials(**given)
    if credentials.expired(time.time()):
        raise Problem("credentials_expired")
    return credentials


def _wishes(asked: dict[str, Any]) -> Wishes:
    """What a device asks for, as it is kept: of addresses only HMACs."""
    vips = asked.get("vips")
    return Wishes(
        vips=None if vips is None else frozenset(map(vip_hmac, vips)),
        quiet=tuple(
            Quiet(
                tuple(hours.get("days", range(1, 8))),
                minutes_after_midnight(hours["begin"]),
                minutes_after_midnight(hours["end"]),
            )
            for hours in asked.get("quiet_hours", ())
        ),
        sound=asked.get("sound"),
        group_conversations=asked.get("group_conversations"),
    )


def _description(claims: dict[str, Any], ews_url: str) -> Description:
    ref, wished = claims.get("device_ref") or {}, claims.get("wishes") or {}
    accounts = claims.get("accounts")
    return Description(
        platform=claims["platform"],
        app_id=claims["app_id"],
        push_token=claims["push_token"],
        ews_url=ews_url,
        content_key=claims.get("content_key"),
        content_wish=wished.get("content", ""),
        wishes=_wishes(wished).to_json(),
        accounts=None if accounts is None else tuple(accounts),
        time_zone=claims["time_zone"],
        uem_id=ref.get("uem_id", ""),
        eas_id=ref.get("eas_id", ""),
        model_name=ref.get("model", ""),
        os_version=ref.get("os_version", ""),
        app_version=ref.get("app_version", ""),
        user_name=claims["email"].rpartition("@")[0],
        device_name=ref.get("name", ""),
    )
