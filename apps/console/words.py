"""What codes mean, in words for administrators, and what to do about each."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.formats import date_format

from apps.devices import registry
from apps.devices.models import Device, DeviceState
from apps.history.stories import Entry
from apps.subscriptions.models import Subscription, SubscriptionState


@dataclass(frozen=True, slots=True)
class Words:
    """What something means, and what to do about it (empty: nothing)."""

    meaning: str
    advice: str = ""


PLATFORMS: Final = {"ios": "iOS", "android": "Android"}
# How a state looks: the kinds of django-unfold's labels.
DEVICE_LOOKS: Final = {
    "Joining": "info",
    "Active": "success",
    "Asleep": "warning",
    "Refused": "danger",
    "Retired": "",
    "Blocked": "danger",
}
SUBSCRIPTION_LOOKS: Final = {
    "Pending": "info",
    "Active": "success",
    "Suspect": "warning",
    "Lost": "danger",
    "Ended": "",
}

_DEVICE_STATES: Final = {
    DeviceState.JOINING: Words("Its credentials are being proved at Exchange."),
    DeviceState.ACTIVE: Words("New mail is announced to it."),
    DeviceState.ASLEEP: Words(
        "It has not checked in for days and is told nothing.",
        "Let its user open the mail app. A request for a check-in may help, too.",
    ),
    DeviceState.REFUSED: Words("It could not join."),
    DeviceState.RETIRED: Words(
        "It is told nothing any more.", "When its user opens the mail app, it subscribes again."
    ),
    DeviceState.BLOCKED: Words(
        "Its phone is blocked: it is told nothing and can't subscribe.",
        "Unblock it, if it may come back.",
    ),
}
# Of devices, subscriptions and joins: the codes mean the same wherever they stand.
_REASONS: Final = {
    "credentials_refused": Words(
        "Exchange refused the user's password: it was changed, or has expired.",
        "Let the user enter the current password in the mail app.",
    ),
    "not_this_mailbox": Words(
        "The password is good, but not of this mailbox's owner.",
        "Let the user sign in as the mailbox's owner. If you know of nobody who tried, look at who "
        "has the API token.",
    ),
    "mailbox_not_found": Words(
        "Exchange has no such mailbox.",
        "Compare the address in the mail app with Exchange (Get-Recipient): it may have been "
        "changed without keeping the old one as an alias. Or the account has no mailbox.",
    ),
    "mailbox_moving": Words(
        "The mailbox is being moved to another database.",
        "It is tried again, and comes back by itself: see Get-MoveRequest. If no move is under "
        "way, the mail system's address leads to servers that can't serve this mailbox.",
    ),
    "mailbox_store_unavailable": Words(
        "The mailbox' database is dismounted, failing over or overloaded.",
        "It is tried again. If it lasts, mount the database: see Get-MailboxDatabase -Status.",
    ),
    "credentials_expired": Words(
        "Its token or certificate has expired.",
        "The mail app gets a new one when it is opened.",
    ),
    "credentials_expiring": Words("Its token or certificate expires soon."),
    "certificate_refused": Words(
        "Exchange refused the client certificate.",
        "See that Exchange trusts its issuer and maps it to the user; or issue a new one.",
    ),
    "login_not_offered": Words(
        "Exchange offers no way to log in with what the phone has.",
        "Enable it on the EWS virtual directory: Basic, Windows or OAuth authentication.",
    ),
    "login_failed": Words(
        "Exchange and ENS could not agree on a login.",
        "Mostly a proxy or load balancer is in between: run the diagnostics of Exchange.",
    ),
    "kerberos_unavailable": Words(
        "Exchange wants Kerberos, which this installation lacks.",
        "Install requirements-kerberos.txt on all workers, or enable NTLM or Basic.",
    ),
    "kerberos_failed": Words(
        "Kerberos does not know the user or the mail server.",
        "Compare the user name with the realm, setspn with the mail server's name, and the clocks.",
    ),
    "kdc_unreachable": Words(
        "No domain controller answers.", "See krb5.conf, DNS and the firewall (port 88)."
    ),
    "exchange_forbidden": Words(
        "Exchange forbids it.",
        "EWS is switched off for this user or this app, or the account is disabled: see "
        "Get-CASMailbox, EwsEnabled and EwsApplicationAccessPolicy.",
    ),
    "exchange_version": Words(
        "This Exchange does not understand what ENS asks.",
        "ENS needs Exchange 2010 SP3 or newer: update the server that holds the mailbox.",
    ),
    "unreachable": Words("Exchange could not be reached.", "Run the diagnostics of Exchange."),
    "server_busy": Words(
        "Exchange was too busy.", "It is tried again. If it lasts, see Exchange's throttling."
    ),
    "too_many_connections": Words(
        "The user has more calls at Exchange than EwsMaxConcurrency permits.",
        "It is tried again. Other programs of the user's take their part; raise it if it lasts.",
    ),
    "too_many_objects": Words(
        "The mailbox' sessions hold too many objects open.",
        "It is tried again. If it lasts, close the user's other programs, or restart the "
        "application pool MSExchangeServicesAppPool.",
    ),
    "tls_refused": Words(
        "Exchange's certificate is not trusted, or its TLS is too old.",
        "Run the diagnostics of Exchange: they tell which. Put your CA's certificate into the mail "
        "system, renew Exchange's, or let it speak TLS 1.2.",
    ),
    "ews_url_not_allowed": Words(
        "Its mail server is not among the hosts of the mail system.",
        "Add the host to the mail system, or correct EWSUrl in the app configuration.",
    ),
    "autodiscover_failed": Words(
        "The phone brought no EWS address, and Autodiscover named none.",
        "Run the diagnostics of Exchange: they tell where Autodiscover was looked for. Or enter a "
        "default EWS address in the mail system.",
    ),
    "autodiscover_not_allowed_host": Words(
        "Autodiscover leads to a host that is not among the hosts of the mail system.",
        "Run the diagnostics of Exchange, with a test mailbox: they name the host. Add it to the "
        "mail system if it is yours.",
    ),
    "address_forbidden": Words(
        "The mail server's name leads to an address that ENS may not call.",
        "Correct the DNS, or have private addresses allowed for the mail system.",
    ),
    "not_ews": Words("What answers there is not EWS.", "Correct the address of the mail system."),
    "subscription_url_refused": Words(
        "Exchange did not accept the address at which it should call ENS.",
        "Run the diagnostics of our public address.",
    ),
    "too_many_subscriptions": Words(
        "Exchange's limit of subscriptions for this mailbox is reached.",
        "Old ones end by themselves within half an hour; or raise EwsMaxSubscriptions.",
    ),
    "too_many_attempts": Words(
        "Several passwords of this account were refused lately.",
        "ENS waits half an hour, so that the account is not locked.",
    ),
    "ews_error": Words("Exchange answered with an error.", "The log of the workers names it."),
    "missed_checkins": Words("It has not checked in for days."),
    "push_token_dead": Words(
        "The push service says that the app is gone from the phone.",
        "If it is not, let its user open the mail app: it subscribes again.",
    ),
    "unblocked": Words("It was unblocked.", "Its user opens the mail app, and it subscribes."),
    "unsubscribed": Words("The app has unsubscribed."),
    "administrator": Words("An administrator blocked it."),
    "compliance": Words("The UEM reported it as not compliant."),
    "gateway": Words(
        "The mail gateway refuses it.",
        "See in the gateway why. ENS asks it again whenever the phone brings its credentials, and "
        "lets the phone in once the gateway does. If a program had it blocked by the admin API, "
        "unblock it there.",
    ),
    "ntlm_behind_gateway": Words(
        "Behind the gateway Exchange offers only NTLM or Kerberos, which can't pass a gateway.",
        "Let the EWS directory behind the gateway offer Basic or OAuth.",
    ),
    "exchange_proxy_failed": Words(
        "The HTTP proxy on the way to Exchange did not let ENS through.",
        "Run the diagnostics of Exchange: they say what the proxy answers.",
    ),
    "listed": Words("It goes by a name that is blocked."),
    "proved": Words("Its credentials proved good."),
    "silent": Words(
        "Exchange has not called for too long.",
        "The phones are woken; the first that checks in subscribes anew. If many are lost, run the "
        "diagnostics of our public address.",
    ),
    "ended_by_exchange": Words(
        "Exchange ended the subscription.", "The phones are woken and subscribe anew."
    ),
    "exchange_called": Words("Exchange called."),
    "superseded": Words("Another subscription took over."),
    "owner_left": Words("The phone to which it belonged left."),
    "not_taken_over": Words("The phone to which it belonged left, and no other took over."),
    "owner_blocked": Words("The phone to which it belonged was blocked."),
    "not_needed": Words("The mailbox was served already."),
    "credentials_not_opened": Words(
        "The credentials in Exchange's call never opened.", "The phone is asked for them again."
    ),
    "device_gone": Words("The phone left meanwhile."),
    "forgotten": Words("Its user was forgotten."),
    "BadDeviceToken": Words(
        "The push service does not know the push token.",
        "Sandbox and production may be mixed up: compare the push app with the app's build.",
    ),
    "Unregistered": Words("The app is gone from the phone."),
    "ExpiredToken": Words("The push token has expired."),
    "TopicDisallowed": Words("The credentials are not this app's.", "Replace the push app's."),
    "not_blocked": Words("It is not blocked."),
    "blocked_already": Words("It was blocked already."),
    "held_by_gateway": Words(
        "It is the mail gateway that refuses it.", "It is let in once the gateway lets it through."
    ),
    "blocked_above": Words(
        "Its phone is blocked for a group further up.", "Ask who looks after that group."
    ),
    "no_push_token": Words("There is no push token: the phone must subscribe first."),
    "push_token_not_opened": Words("The push token can't be opened.", "Look at the master keys."),
    "relay_not_configured": Words("There is no CNS yet.", "Set Site URLs."),
    "app_not_allowed": Words("The relay has no push app for this app.", "Add it to the push apps."),
    "provider_key_unusable": Words("The push app's credentials can't be used.", "Replace them."),
    "connect_failed": Words("The CNS can't be reached.", "Run the diagnostics of the relay."),
    "deadline_exceeded": Words(
        "The CNS did not answer in time.", "Run the diagnostics of the relay."
    ),
    "tls_failed": Words(
        "The CNS' certificate is not trusted or not pinned.", "Run the diagnostics of the relay."
    ),
    "proxy_failed": Words("The proxy to the CNS fails.", "Run the diagnostics of the relay."),
    "answer_malformed": Words(
        "What answers at the CNS' address is no CNS.", "Run the diagnostics of the relay."
    ),
    "version_unsupported": Words(
        "The CNS is of another release.", "Run the diagnostics of the relay."
    ),
    "certificate_unknown": Words(
        "The CNS does not know our Secure Channel Certificate.", "Run the diagnostics of the relay."
    ),
    "certificate_revoked": Words(
        "The CNS has revoked our Secure Channel Certificate.", "Run the diagnostics of the relay."
    ),
    "clock_mismatch": Words("The CNS' clock and ours differ.", "Run the diagnostics of the relay."),
    "audience_mismatch": Words(
        "The CNS goes by another address.", "Run the diagnostics of the relay."
    ),
}
_SUBSCRIPTION_STATES: Final = {
    SubscriptionState.PENDING: Words("Exchange is being asked to call us."),
    SubscriptionState.ACTIVE: Words("Exchange calls us."),
    SubscriptionState.SUSPECT: Words(
        "Its credentials are good no more; the phones are asked for others.",
        "Let the user open the mail app and enter the current password.",
    ),
    SubscriptionState.LOST: Words("Exchange does not call any more; the phones are woken."),
    SubscriptionState.ENDED: Words("It is over."),
}
_LEVELS: Final = {
    "none": "the badge only",
    "generic": "“New mail”",
    "sender": "the sender",
    "sender_subject": "sender and subject",
    "preview": "sender, subject and the first words",
}
ALERTS: Final = {
    "worker_gone": Words(
        "No worker is at work.",
        "Start workers and beat, and see their logs. Nothing is lost: mail waits in the log.",
    ),
    "beat_gone": Words(
        "No beat is at work: silence goes unnoticed and what failed is not tried again.",
        "Start beat, on two servers where there are two; only one sends at a time.",
    ),
    "clock_differs": Words(
        "A server's clock differs from the database's.",
        "Let all servers follow the same time server; the diagnostics name the server.",
    ),
    "relay_refuses_us": Words(
        "The relay refuses our calls: no phone rings.",
        "Run the diagnostics of the relay; mostly the Secure Channel Certificate is not registered "
        "there, or the clocks differ.",
    ),
    "relay_unavailable": Words(
        "The relay can't be reached: no phone rings.",
        "Is it up, reachable, and its pin current? Announcements wait for up to an hour.",
    ),
    "mail_log_growing": Words(
        "Mail waits longer and longer to be announced.",
        "Workers are too few, or an Exchange or the relay holds them up.",
    ),
    "join_log_growing": Words(
        "Phones wait longer and longer to join.", "A roll-out, or Exchange throttles."
    ),
    "credentials_refused": Words(
        "Exchange refuses many passwords.",
        "A directory may be away, a policy may have expired them, or somebody guesses.",
    ),
    "proof_failures": Words(
        "Somebody subscribes with good credentials for others' mailboxes.",
        "Revoke the API token that is used for it, and look at the accounts.",
    ),
    "gateway_refuses": Words(
        "The mail gateway refuses many phones.",
        "If they are fine there, compare the header of the mail system with the gateway's.",
    ),
    "phones_do_not_answer": Words(
        "Phones were woken in vain for hours: their mail is not announced.",
        "Ask their users to open the mail app.",
    ),
    "push_app_expires": Words("A push app's certificate expires.", "Get a new one from Apple."),
    "push_app_refused": Words(
        "The push service refuses a push app's credentials.", "Replace them."
    ),
    "channel_certificate_expires": Words(
        "The Secure Channel Certificate expires.",
        "Make the next one, register it at the relay, and roll to it.",
    ),
}


def plain(text: object) -> str:
    """What a device says of itself, on one line and without marks that turn its direction."""
    return "".join(
        " " if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character
        for character in str(text)
    ).strip()


def reason(code: str) -> Words:
    """What a reason means; one that nobody has described is shown as it is."""
    if not code:
        return Words("")
    return _REASONS.get(code) or Words(plain(code))


def of_device(device: Device) -> Words:
    """What a device's state means, with its reason, and what to do."""
    held = Words("It is told nothing.") if registry.held_by_gateway(device) else None
    return _both(held or _DEVICE_STATES[DeviceState(device.state)], reason(device.reason))


def of_subscription(subscription: Subscription) -> Words:
    """What a subscription's state means, with its reason, and what to do."""
    state = SubscriptionState(subscription.state)
    return _both(_SUBSCRIPTION_STATES[state], reason(subscription.reason))


def _both(state: Words, why: Words) -> Words:
    return Words(f"{state.meaning} {why.meaning}".strip(), why.advice or state.advice)


def level(name: str) -> str:
    """A content level in words."""
    return _LEVELS.get(name, plain(name))


def clock(at: datetime | None) -> str:
    """A time as pages write it; – for none."""
    return date_format(at, "DATETIME_FORMAT") if at else "–"


def since(at: datetime | None) -> str:
    """How long ago something was, in one unit; for the future, how long until then."""
    if at is None:
        return "never"
    passed = timezone.now() - at
    text = span(abs(passed))
    return f"in {text}" if passed < timedelta(0) else f"{text} ago"


def span(time: timedelta) -> str:
    """A span of time in one unit: `3 days`."""
    seconds = int(time.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "minute"):
            n = seconds // length
            return f"{n} {unit}{'' if n == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a device's story: `look` is `ok`, `warning`, `failed` or empty."""

    at: datetime
    text: str
    detail: str = ""
    look: str = ""


def line(entry: Entry) -> Line:
    """An entry of a device's story in words."""
    facts = {name: plain(value) for name, value in entry.facts.items()}
    teller = _TELLERS.get(entry.kind)
    if teller is not None:
        text, detail, look = teller(facts)
        return Line(entry.at, text, detail, look)
    rest = ", ".join(f"{name}: {value}" for name, value in facts.items())
    return Line(entry.at, plain(entry.kind).replace("_", " ").capitalize(), rest)


_Told = tuple[str, str, str]


def _moved(facts: dict[str, str]) -> _Told:
    to, why = facts.get("to", ""), facts.get("reason", "")
    meaning = reason(why).meaning
    if to == DeviceState.ACTIVE:
        return "Proved: new mail is announced", "", "ok"
    if to == DeviceState.JOINING:
        return "Joined: its credentials are being proved", meaning, ""
    look = "failed" if to in (DeviceState.REFUSED, DeviceState.BLOCKED) else "warning"
    return to.capitalize(), meaning, look


_ANNOUNCED: Final = "Mail announced"


def _push(what: str) -> Any:
    def tell(facts: dict[str, str]) -> _Told:
        result, why = facts.get("result", ""), facts.get("reason", "")
        took = f" in {int(facts['ms']):,} ms" if facts.get("ms", "").isdecimal() else ""
        # A badge says neither sender nor subject, whatever may be told.
        says = "told" in facts and what == _ANNOUNCED
        told = f"Said: {level(facts['told'])}" if says else ""
        if facts.get("encrypted") == "True":
            told += ", encrypted"
        if result == "accepted":
            return f"{what}{took}", told, "ok"
        cause = reason(why).meaning or result
        ends = {"dead": "the push token is dead", "retry": "refused for now, tried again"}
        return f"{what}: push {ends.get(result, 'refused')}", f"Because: {cause}", "failed"

    return tell


def _subscription(facts: dict[str, str]) -> _Told:
    to = facts.get("to", "")
    looks = {"active": "ok", "suspect": "warning", "lost": "failed"}
    detail = reason(facts.get("reason", "")).meaning
    return f"Its mailbox's subscription: {to}", detail, looks.get(to, "")


_TELLERS: Final = {
    "moved": _moved,
    "subscription": _subscription,
    "announcement": _push(_ANNOUNCED),
    "badge": _push("Badge corrected"),
    "wake_up": _push("Woken silently"),
    "reconnect_push": _push("User asked to open the app"),
    "test_push": _push("Test notification"),
    "asked_to_check_in": _push("Asked to check in"),
}
