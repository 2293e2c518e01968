"""Sessions in the database, worth nothing to whoever reads the database.

Their content is wrapped by the vault: while somebody sets up a second factor it holds the secret.
A row is found by a digest of the session's key: the key itself, which is all that a browser shows
to be let in, is nowhere but in its cookie.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode, b64decode, b64encode
from typing import Any, Final

from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.contrib.sessions.serializers import JSONSerializer
from django.utils import timezone

from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

_COLUMN: Final = 40
_PLACE: Final = {"table": "django_session", "row": "", "purpose": "session"}


class SessionStore(db.SessionStore):
    """Django's session store with sealed content and digested keys."""

    def encode(self, session_dict: dict[str, Any]) -> str:
        """The content as it is stored."""
        return b64encode(wrap(JSONSerializer().dumps(session_dict), **_PLACE)).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """The content as it was; empty where it doesn't open: the visitor signs in anew."""
        try:
            found = JSONSerializer().loads(unwrap(b64decode(session_data), **_PLACE))
        except (UnwrapFailed, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def exists(self, session_key: str) -> bool:
        """Whether there is a session of this key."""
        return super().exists(_digest(session_key))

    def delete(self, session_key: str | None = None) -> None:
        """Forget a session, this one by default."""
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(session_key=_digest(key)).delete()

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        """The row of this session with this content, not saved yet."""
        row = super().create_model_instance(data)
        row.session_key = _digest(row.session_key)
        return row

    def _get_session_from_db(self) -> Session | None:
        found = Session.objects.filter(
            session_key=_digest(self.session_key or ""), expire_date__gt=timezone.now()
        ).first()
        if found is None:
            self._session_key = None
        return found


def _digest(session_key: str) -> str:
    # 200 bits of SHA-256: the column is 40 characters wide, and the key itself is random.
    return b32encode(hashlib.sha256(session_key.encode()).digest()).decode()[:_COLUMN]


__all__ = ["SessionStore", "UpdateError"]
