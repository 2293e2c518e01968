"""The WSGI entry point, for granian, wfastcgi or any other WSGI server."""

from __future__ import annotations

import gc
import importlib
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")

application = get_wsgi_application()

# Views poke the workers: they need to know the broker.
importlib.import_module("ens_project.celery")
# A worker that is gone can't say so: the web processes watch too.
watch = "apps.relay.attention" if settings.RELAY_ONLY else "apps.operations.alerts"
importlib.import_module(watch).start()

# What is loaded by now stays. The collector needn't go through it again and again, nor look for
# cycles after every 700 objects: one batch of pushes makes thousands, and nearly none are cyclic.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 50, 100)
