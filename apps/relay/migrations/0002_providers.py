"""Push apps by platform and provider.

What release 0.1 sealed stays as it is: its relays may still run (apps/relay/push_apps.py).
"""

from django.db import migrations, models

_PLATFORMS = [("apns", "Apns"), ("fcm", "Fcm")]
_PROVIDERS = [("apns", "Apns"), ("fcm", "Fcm"), ("sns", "Sns")]


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
    ]
