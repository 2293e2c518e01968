"""Django's command line for ENS; see docs/settings.md for where it reads its settings from."""

import os
import sys


def main() -> None:
    settings = "ens_project.settings"
    if sys.argv[1:2] == ["ens_install"]:
        # There may be no ens.env yet: this command writes it.
        settings = "ens_project.install_settings"
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
