from django.apps import AppConfig


class AdministratorsConfig(AppConfig):
    name = "apps.administrators"
    label = "administrators"

    def ready(self) -> None:
        from apps.administrators import events  # noqa: F401 - connects its signals
        from apps.administrators.directory import check  # noqa: F401 - registers it
