"""A pretend Exchange: EWS over HTTPS with Basic authentication, push delivery, a control API.

It speaks the public formats only and shares no code with the rooms it is there to try. Begin with
`server.LabExchange`.
"""

from .clock import Clock
from .errors import EwsError
from .server import LabExchange, in_thread
from .soap import EXCHANGES, ServerVersion

__all__ = ["EXCHANGES", "Clock", "EwsError", "LabExchange", "ServerVersion", "in_thread"]
