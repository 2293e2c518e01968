"""A pretend phone with a mail app that knows nothing but docs/device-api.md.

It imports no room of ENS: what it can do, a stranger's client can do. Pushes reach it from the
pretend APNs or FCM through their control ports, in the place of Apple's and Google's connections to
real phones.
"""

from apps.lab.phone.client import Account, CheckIn, EnsClient, Refused
from apps.lab.phone.phone import Phone
from apps.lab.phone.pushes import Apns, Fcm, Push
from apps.lab.phone.screen import Screen

__all__ = ["Account", "Apns", "CheckIn", "EnsClient", "Fcm", "Phone", "Push", "Refused", "Screen"]
