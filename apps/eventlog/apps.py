from django.apps import AppConfig


class EventLogConfig(AppConfig):
    name = "apps.eventlog"
    label = "eventlog"
