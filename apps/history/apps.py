from django.apps import AppConfig


class HistoryConfig(AppConfig):
    name = "apps.history"
    label = "history"

    def ready(self) -> None:
        from apps.devices.registry import device_moved
        from apps.history.stories import note_move

        device_moved.connect(note_move, dispatch_uid="history.device_moved")
