"""Moto's SNS on a real socket, with a tap on its calls and troubles on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from apps.relay.providers.sns.account import Service, SnsAccount
from apps.relay.providers.sns.client import make_client

REGION = "eu-central-1"
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
_ERROR = (
    '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
    "<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId>"
    "</ErrorResponse>"
)

Trouble = Callable[[dict[str, str]], tuple[int, str, str] | None]


class SnsServer:
    """One for a session of tests.

    `calls` are the forms that came; `trouble` may answer one itself, with status, code, message.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        self.trouble: Trouble | None = None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # What an administrator of that cloud account does.
        self.admin: Any = make_client(SnsAccount(REGION, KEY_ID, "", "APNS", SECRET), self.url)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def application(self, service: Service, name: str = "mail") -> SnsAccount:
        """A new platform application, and an account that may publish to it."""
        answer = self.admin.create_platform_application(
            Name=name, Platform=service, Attributes={"PlatformCredential": "secret"}
        )
        return SnsAccount(REGION, KEY_ID, answer["PlatformApplicationArn"], service, SECRET)

    def endpoints(self, account: SnsAccount) -> dict[str, dict[str, str]]:
        """What SNS holds for the application: attributes by ARN."""
        found = self.admin.list_endpoints_by_platform_application(
            PlatformApplicationArn=account.application_arn
        )
        return {each["EndpointArn"]: each["Attributes"] for each in found["Endpoints"]}

    def asked(self, action: str) -> list[dict[str, str]]:
        return [call for call in self.calls if call.get("Action") == action]

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.calls.append(form)
        told = self.trouble(form) if self.trouble is not None else None
        if told is None:
            answer: Iterable[bytes] = self._moto(environ, start)
            return answer
        status, code, message = told
        start(f"{status} Trouble", [("Content-Type", "text/xml")])
        return [_ERROR.format(code=code, message=message).encode()]
