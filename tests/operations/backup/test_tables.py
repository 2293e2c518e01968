from __future__ import annotations

from django.apps import apps
from django.db import models

from apps.operations.backup import tables


def test_every_model_is_decided_about() -> None:
    every = {model._meta.label for model in apps.get_models(include_auto_created=True)}
    decided = set(tables.KEPT) | set(tables.LEFT_OUT)
    assert every - decided == set(), "name them in apps/operations/backup/tables.py"
    assert decided - every == set(), "these are gone"
    assert not set(tables.KEPT) & set(tables.LEFT_OUT)


def test_what_opens_credentials_stays_out() -> None:
    out = {"keypairs.KeyPair", "keypairs.SealedCredential", "sessions.Session", "eventlog.LogEntry"}
    assert out <= set(tables.LEFT_OUT)


def test_a_table_comes_after_those_that_it_refers_to() -> None:
    order = tables.kept()
    for place, model in enumerate(order):
        for field in model._meta.concrete_fields:
            if isinstance(field, models.ForeignKey) and field.related_model is not model:
                assert order.index(field.related_model) < place, f"{model} refers to a later one"
