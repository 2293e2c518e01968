"""The pretend APNs as a process: `python -m apps.lab.stand.apns_server …`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from apps.lab.apns import LabApns
from apps.lab.ca import LabCa
from apps.lab.stand.signals import until_asked_to_stop


async def serve(options: argparse.Namespace) -> None:
    """Serve until asked to stop; the CA of the TLS port is written to `<directory>/ca.pem`."""
    ca = LabCa(options.directory)
    apns = LabApns(ca, port=options.port, control_port=options.control_port)
    public_pem = options.public_key.read_text("ascii")
    apns.add_key(options.key_id, options.team_id, public_pem, [options.topic])
    await apns.start()
    try:
        await until_asked_to_stop()
    finally:
        await apns.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--public-key", type=Path, required=True, help="of the provider, in PEM")
    parser.add_argument("--key-id", required=True)
    parser.add_argument("--team-id", required=True)
    parser.add_argument("--topic", required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
