"""A pretend Secure Email Gateway: it stands before an Exchange and admits by device.

Begin with `server.LabGateway`.
"""

from .server import LabGateway, in_thread

__all__ = ["LabGateway", "in_thread"]
