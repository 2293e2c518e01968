"""The pretend FCM as a process: `python -m apps.lab.stand.fcm_server …`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from apps.lab.ca import LabCa
from apps.lab.fcm import LabFcm
from apps.lab.stand.signals import until_asked_to_stop


async def serve(options: argparse.Namespace) -> None:
    """Serve until asked to stop; the CA of the TLS port is written to `<directory>/ca.pem`."""
    fcm = LabFcm(LabCa(options.directory), port=options.port, control_port=options.control_port)
    public_pem = options.public_key.read_text("ascii")
    fcm.accounts.add(options.project_id, options.client_email, public_pem)
    await fcm.start()
    try:
        await until_asked_to_stop()
    finally:
        await fcm.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--public-key", type=Path, required=True, help="of the account, in PEM")
    parser.add_argument("--project-id", required=True)
    parser.add_argument("--client-email", required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
