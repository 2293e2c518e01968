from django.apps import AppConfig


class CnsConfig(AppConfig):
    name = "apps.cns"
    label = "cns"
