from django.apps import AppConfig


class KeyPairsConfig(AppConfig):
    name = "apps.keypairs"
    label = "keypairs"
