from django.apps import AppConfig


class AnnounceConfig(AppConfig):
    name = "apps.announce"
    label = "announce"
