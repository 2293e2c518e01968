"""A pretend FCM: Google's token endpoint and `messages:send`, and a control for pretend phones.

It answers as Google documents it, and is stricter where Google would take a message and the phone
would then not get it: `rules.py` says where.
"""

from apps.lab.fcm.accounts import ServiceAccount
from apps.lab.fcm.answers import FcmFault
from apps.lab.fcm.phones import Arrival
from apps.lab.fcm.server import LabFcm

__all__ = ["Arrival", "FcmFault", "LabFcm", "ServiceAccount"]
