"""Where the shared stand asks for SRV records."""

from __future__ import annotations

from apps.lab.stand.ports import free_port

DNS_PORT = free_port()
