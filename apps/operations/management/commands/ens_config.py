"""`manage.py ens_config`: make, look into and take over a `config.xml`."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.audit.service import command_line
from apps.operations import config_export, config_xml, files
from apps.operations.config_xml import ConfigRefused, Configuration
from apps.operations.device_actions import By
from apps.tenants.groups import GroupRefused, find_group


class Command(BaseCommand):
    """Passwords come from a prompt or a file: others can see a command line."""

    help = "Make, look into and take over a config.xml, which is encrypted under a password."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Three actions; each asks for the password unless a file has it."""
        actions = parser.add_subparsers(dest="action", required=True)
        export = actions.add_parser("export", help="make a file; this is audited")
        export.add_argument("file", type=Path, help="where to; an existing file is not touched")
        export.add_argument("--og", required=True, help="name or GUID of the organization group")
        export.add_argument(
            "--with-master-key",
            action="store_true",
            help="for a further server of this deployment: whoever opens the file reads everything",
        )
        show = actions.add_parser("show", help="open a file and print it without its secrets")
        show.add_argument("file", type=Path)
        take = actions.add_parser(
            "import",
            help="write its keys to where ens.env says, and print the lines that ens.env needs; "
            "existing files are not touched",
        )
        take.add_argument("file", type=Path)
        for action in (export, show, take):
            action.add_argument("--password-file", type=Path, help="its first line is the password")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one action; raises CommandError with one clear line."""
        try:
            if options["action"] == "export":
                self._export(options)
            else:
                content = config_xml.unseal(
                    files.read(options["file"], config_xml.MAX_BYTES),
                    files.password(options["password_file"]),
                )
                if options["action"] == "show":
                    self._show(content)
                else:
                    self._import(content)
        except (ConfigRefused, GroupRefused) as error:
            raise CommandError(str(error)) from None

    def _export(self, options: dict[str, Any]) -> None:
        og = find_group(options["og"])
        password = files.password(options["password_file"], twice=True)
        config_xml.check_password(password, og.name)
        by = By(command_line())
        # Its place first: a key must not be made for a file that can't be written.
        with files.new(options["file"]) as file:
            try:
                made = config_export.export(
                    og, password, by, with_master_key=options["with_master_key"]
                )
            except (ConfigRefused, OSError) as error:
                file.close()
                options["file"].unlink()
                raise CommandError(_reason(error)) from None
            file.write(made.xml)
        self.stdout.write(f"{options['file']}: thumbprint {made.thumbprint}")
        if not made.registered:
            self.stdout.write("The relay's operator must register this certificate:")
            self.stdout.write(made.certificate)

    def _show(self, content: Configuration) -> None:
        self.stdout.write(f"organization group: {content.og_name} ({content.og_guid})")
        self.stdout.write(f"CNS: {content.cns_url}")
        for pin in content.cns_pins:
            self.stdout.write(f"CNS pin: {pin}")
        self.stdout.write(f"secure channel key: {content.key_label}, {content.thumbprint}")
        self.stdout.write(f"registered at the relay: {'yes' if content.registered else 'no'}")
        self.stdout.write(f"master key: {'yes' if content.master_key else 'no'}")

    def _import(self, content: Configuration) -> None:
        path: Path | None = settings.ENS.cns_key_file
        if path is None:
            raise CommandError("ENS_CNS_KEY_FILE is missing: it says where to write the key")
        wanted = [(path, content.private_key + content.certificate)]
        if content.master_key:
            wanted.append((settings.ENS.master_key_file, content.master_key))
        for target, _ in wanted:
            if target.exists():
                raise CommandError(f"{target} exists already; nothing was written")
        for target, text in wanted:
            with files.new(target) as file:
                file.write(text.encode())
            self.stderr.write(f"written: {target}")
        self.stdout.write(f"ENS_CNS_URL={content.cns_url}")
        if content.cns_pins:
            self.stdout.write(f"ENS_CNS_PINS={','.join(content.cns_pins)}")


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigRefused):
        return str(error)
    return f"the master key file can't be read ({type(error).__name__})"
