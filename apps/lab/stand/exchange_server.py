"""The pretend Exchange as a process: `python -m apps.lab.stand.exchange_server …`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from apps.lab.ca import LabCa
from apps.lab.exchange import LabExchange
from apps.lab.exchange.clock import Clock
from apps.lab.stand.ports import HOST
from apps.lab.stand.signals import until_asked_to_stop


async def serve(options: argparse.Namespace) -> None:
    """Serve the demo accounts until asked to stop; the CA goes to `<directory>/ca.pem`."""
    clock = Clock(options.clock_scale, options.clock_origin)
    lab = LabExchange(ca=LabCa(options.directory), clock=clock, record_dir=options.record)
    lab.add_demo_accounts()
    await lab.start(HOST, options.port, options.control_port)
    try:
        await until_asked_to_stop()
    finally:
        await lab.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="keep every SOAP message in this directory")
    parser.add_argument("--clock-scale", type=float, default=1.0, help="times real time")
    parser.add_argument("--clock-origin", type=float, help="Unix time at which it was right")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
