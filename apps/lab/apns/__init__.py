"""A pretend APNs: HTTP/2 over TLS towards providers, and a control for pretend phones.

It answers as Apple documents it, and is stricter than Apple where Apple would take a push and
then quietly not show it: `rules.py` says where.
"""

from apps.lab.apns.certificates import Asked
from apps.lab.apns.faults import Fault
from apps.lab.apns.phones import Arrival
from apps.lab.apns.providers import ProviderKey
from apps.lab.apns.server import LabApns

__all__ = ["Arrival", "Asked", "Fault", "LabApns", "ProviderKey"]
