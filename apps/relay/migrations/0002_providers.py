"""Push apps by platform and provider; Apple's bare keys become credentials that name their kind."""

import json
import secrets

from django.db import migrations, models

from apps.vault.wrapping import unwrap, wrap

_PLATFORMS = [("apns", "Apns"), ("fcm", "Fcm")]
_PROVIDERS = [("apns", "Apns"), ("fcm", "Fcm"), ("sns", "Sns")]


def pack_bare_keys(apps, _schema_editor):
    """Release 0.1 sealed the .p8 alone, its ids beside it in clear."""
    for app in apps.get_model("relay", "PushApp").objects.filter(revision=""):
        place = {"table": "relay_push_app", "row": f"apns:{app.app}", "purpose": "provider_key"}
        ids = {"key_id": app.key_id, "team_id": app.team_id}
        key = unwrap(app.sealed_key, **place).decode("ascii")
        packed = json.dumps({"kind": "token", **ids, "key": key}).encode()
        app.sealed_key = wrap(packed, **place)
        app.summary = {"kind": "token", **ids}
        app.revision = secrets.token_hex(16)
        app.save()


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="pushapp",
            name="provider",
            field=models.CharField(
                choices=_PROVIDERS, default="apns", db_default="apns", max_length=10
            ),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="revision",
            field=models.CharField(blank=True, default="", db_default="", max_length=32),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="summary",
            field=models.JSONField(
                blank=True, default=dict, db_default=models.Value({}, models.JSONField())
            ),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="trouble",
            field=models.CharField(blank=True, default="", db_default="", max_length=64),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="trouble_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="pushapp",
            name="expiry_told_days",
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="pushapp",
            name="platform",
            field=models.CharField(choices=_PLATFORMS, max_length=10),
        ),
        migrations.AlterField(
            model_name="pushapp",
            name="key_id",
            field=models.CharField(blank=True, default="", max_length=10),
        ),
        migrations.AlterField(
            model_name="pushapp",
            name="team_id",
            field=models.CharField(blank=True, default="", max_length=10),
        ),
        migrations.RunPython(pack_bare_keys, migrations.RunPython.noop),
    ]
