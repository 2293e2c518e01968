from django.apps import AppConfig
from django.conf import settings


class OperationsConfig(AppConfig):
    name = "apps.operations"
    label = "operations"

    def ready(self) -> None:
        if not settings.RELAY_ONLY:  # whose rooms the checks are about are not there
            from apps.operations import checks

            checks.register()
