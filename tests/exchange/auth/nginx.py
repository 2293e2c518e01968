"""A real nginx in front of the lab that lets in only who shows a client certificate."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from apps.lab.ca import LabCa

_PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin"


@contextmanager
def nginx(folder: Path, ca: LabCa, to: str) -> Iterator[int]:
    """Demands certificates of `ca` and passes on to `to` (https://host:port); yields its port."""
    found = shutil.which("nginx", path=_PATHS)
    if found is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = int(held.getsockname()[1])
    files = ca.issue("front")
    (folder / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
 access_log off;
 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 server {{
  listen 127.0.0.1:{port} ssl;
  ssl_certificate {files.certificate}; ssl_certificate_key {files.key};
  ssl_client_certificate {ca.pem_file}; ssl_verify_client on;
  location / {{
   proxy_pass {to}; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_ssl_trusted_certificate {ca.pem_file}; proxy_ssl_verify on; proxy_ssl_name localhost;
  }}
 }}
}}
"""
    )
    process = subprocess.Popen(
        [found, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(folder / "nginx.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 10
        while time.monotonic() < ends and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        else:
            raise AssertionError((folder / "error.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(10)
