"""`manage.py ens_rewrap`: a new master key, and nothing else changes (docs/backup.md)."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.operations import rewrap
from apps.operations.rewrap import Found
from apps.vault import key_file
from apps.vault.master import LOOK_AGAIN_S, MasterKeyInvalid, fingerprint, master_keys

_SHOWN = 10


class Command(BaseCommand):
    """Three steps, each of which may be repeated; nothing has to be stopped."""

    help = (
        "Replace the master key: --add-key, and copy the file to every server; --to KEY, and copy "
        "it again; --drop-old, and copy it. Without an option: wrap anew what the first key of "
        "the file has not wrapped."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One step at a time, for between them the file has to reach every server."""
        step = parser.add_mutually_exclusive_group()
        step.add_argument(
            "--add-key", action="store_true", help="put a new key at the end of the file"
        )
        step.add_argument(
            "--to", metavar="KEY", help="put this key first, so that it wraps from now on"
        )
        step.add_argument(
            "--drop-old",
            action="store_true",
            help="leave only the first key in the file; refused while another one is needed",
        )
        step.add_argument("--show", action="store_true", help="say what each key has wrapped")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line."""
        try:
            if options["add_key"]:
                key_id = key_file.add_key()
                self.stdout.write(
                    f"{key_id} was added. Copy the file to every server, keep a copy in a safe "
                    f"place; ten seconds later run ens_rewrap --to {key_id}."
                )
            elif options["drop_old"]:
                self._drop()
            elif options["show"]:
                self._say(rewrap.count())
            else:
                self._rewrap(options["to"])
        except MasterKeyInvalid as error:
            raise CommandError(str(error)) from None

    def _rewrap(self, key_id: str | None) -> None:
        if key_id and key_id != master_keys().current_id:
            key_file.put_first(key_id)
        found = rewrap.rewrap()
        self._say(found)
        _audit("master_key.rewrap", {"current": master_keys().current_id, "rows": found.wrapped})
        self.stdout.write(f"{found.wrapped} wrapped anew.")
        if found.broken:
            shown = "; ".join(found.broken[:_SHOWN])
            raise CommandError(f"{len(found.broken)} open under no key of the file: {shown}")
        if len(master_keys().keys) > 1:
            self.stdout.write(
                "Copy the file to every server; ten seconds later run ens_rewrap once more, for "
                "what they wrapped meanwhile, and then ens_rewrap --drop-old."
            )

    def _drop(self) -> None:
        keys = master_keys()
        _wait_for_others()
        found = rewrap.count()
        old = {name: count for name, count in found.by_key.items() if name != keys.current_id}
        if old:
            text = ", ".join(f"{name}: {count}" for name, count in sorted(old.items()))
            raise CommandError(f"still needed ({text}): run ens_rewrap first; nothing was changed")
        dropped = key_file.drop_others()
        _audit("master_key.drop", {"dropped": dropped, "current": keys.current_id})
        self.stdout.write(
            f"dropped: {', '.join(dropped) or 'none'}. Copy the file to every server. Backups "
            "that were made before need the old file: keep it apart for as long as you keep them."
        )

    def _say(self, found: Found) -> None:
        keys = master_keys()
        for name in sorted({*keys.keys, *found.by_key}):
            known = keys.keys.get(name)
            mark = fingerprint(known) if known else "not in the file"
            current = ", current" if name == keys.current_id else ""
            wrapped = found.by_key.get(name, 0)
            self.stdout.write(f"{name or 'damaged'} ({mark}{current}): {wrapped}")


def _wait_for_others() -> None:
    """Until every process that looks at this very file knows it: none wraps by an old one then."""
    changed = settings.ENS.master_key_file.stat().st_mtime
    time.sleep(max(0.0, min(2 * LOOK_AGAIN_S, changed + 2 * LOOK_AGAIN_S - time.time())))


def _audit(action: str, after: dict[str, Any]) -> None:
    if apps.is_installed("apps.audit"):
        from apps.audit import service as audit

        audit.record(
            actor=audit.command_line(),
            action=action,
            target="all of the database",
            og_path="",
            before=None,
            after=after,
        )
