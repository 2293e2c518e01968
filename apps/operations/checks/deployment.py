"""What this deployment stands on: database, broker, log, workers, beat, clock, files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from apps.alerts.models import Alert
from apps.diagnosis.registry import Context, Status, Step, check
from apps.eventlog.factory import get_log
from apps.history import counters, names
from apps.operations import database_clock, lease
from apps.operations.rounds import rounds
from apps.subscriptions.entries import JOIN, MAIL
from ens_project.env import env_file

_SLOW_S: Final = 0.1
_JUST_NOW: Final = timedelta(minutes=2)
_DEEP: Final = 500
_ONE_TIME: Final = "Let all servers follow the same time server."


@check("deployment.database", title="Database", area="deployment")
def database(context: Context) -> Iterator[Step]:
    """Whether it answers, how fast, and whether its tables are this release's."""
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    took = time.monotonic() - began
    detail = f"{connection.vendor}, {took * 1000:.0f} ms"
    if took > _SLOW_S:
        yield Step("answer", "warning", detail, "The database is far away or overloaded.")
    else:
        yield Step("answer", "ok", detail)
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        advice = "Run `python manage.py migrate`, on one server."
        yield Step("tables", "failed", f"{len(missing)} migrations are missing", advice)
    else:
        yield Step("tables", "ok", "current")


@check("deployment.queue", title="Event log and broker", area="deployment")
def queue(context: Context) -> Iterator[Step]:
    """Whether both answer, and how much waits."""
    try:
        get_log().seen(["diagnose"])
        yield Step("event log", "ok", type(get_log()).__name__)
    except Exception as error:  # noqa: BLE001 - the name of whatever it is helps
        advice = "Exchange is answered 503 meanwhile and comes again. Look at ENS_EVENT_LOG_URL."
        yield Step("event log", "failed", type(error).__name__, advice)
        return
    for kind, title in ((MAIL, "mail that waits"), (JOIN, "joins that wait")):
        depth = get_log().depth(kind)
        if depth < _DEEP:
            yield Step(title, "ok", str(depth))
        else:
            advice = "Workers are too few or held up; see docs/operations.md, mail_log_growing."
            yield Step(title, "warning", str(depth), advice)
    # Not Celery's current app: a management command has none, and would ask a broker of nobody's.
    from ens_project.celery import app

    try:
        with app.connection_for_write(connect_timeout=3) as broker:
            broker.ensure_connection(max_retries=1, timeout=3)
        yield Step("broker", "ok", str(app.conf.broker_url).partition(":")[0])
    except Exception as error:  # noqa: BLE001 - as above
        advice = "Nothing is lost: beat finds the work again. Look at ENS_BROKER_URL."
        yield Step("broker", "failed", type(error).__name__, advice)


@check("deployment.processes", title="Workers and beat", area="deployment")
def processes(context: Context) -> Iterator[Step]:
    """Whether mail is being worked on, and whether beat does its rounds."""
    if counters.recent(names.DRAIN_RUNS, _JUST_NOW):
        yield Step("workers", "ok", "at work within two minutes")
    else:
        advice = "No worker has looked at the mail for two minutes: start workers and beat."
        yield Step("workers", "failed", "none at work", advice)
    last, current = rounds()
    if last is not None and current:
        yield Step("beat", "ok", f"{last:%H:%M:%S} UTC")
    else:
        advice = "Start beat, and a worker for the queue `housekeeping`."
        yield Step("beat", "failed", "its rounds are overdue", advice)
    holder = lease.standing(lease.BEAT)
    if holder is not None and holder.seconds_left > 0:
        detail = f"{holder.holder}, {holder.seconds_left:.0f} s left"
        yield Step("beat's turn", "ok", detail)
    else:
        detail = f"nobody's; {holder.holder} was the last" if holder else "nobody's"
        advice = "Start beat, on two servers where there are two; only one sends at a time."
        yield Step("beat's turn", "warning", detail, advice)


@check("deployment.clock", title="Clock", area="deployment")
def clocks(context: Context) -> Iterator[Step]:
    """This server's clock beside the database server's, and what other servers said of theirs."""
    if connection.vendor == "sqlite":
        yield Step("clock", "skipped", "the database is on this machine")
        return
    apart = database_clock.apart()
    detail = f"{abs(apart):.1f} s apart; {timezone.now():%H:%M:%S} UTC"
    if abs(apart) < database_clock.CLOCKS_S:
        yield Step("clock", "ok", detail)
    else:
        yield Step("clock", "warning", detail, _ONE_TIME)
    others = Alert.objects.filter(code="clock_differs", raised=True).values_list("key", flat=True)
    for key in others.order_by("key"):
        yield Step("another clock", "warning", key.partition(":")[2], _ONE_TIME)


@check("deployment.files", title="Files with secrets", area="deployment")
def files(context: Context) -> Iterator[Step]:
    """Whether others than the service account may read what opens everything."""
    ens = settings.ENS
    wanted: dict[str, Path | None] = {
        "master key": ens.master_key_file,
        "secure channel key": ens.cns_key_file,
        "ens.env": env_file(),
    }
    if connection.vendor == "sqlite":
        wanted["database"] = Path(str(connection.settings_dict["NAME"]))
    for name, path in wanted.items():
        if path is not None and (path.exists() or name == "master key"):
            yield _file(name, path)
    inside = ens.master_key_file.resolve().is_relative_to(ens.data_dir.resolve())
    if inside:
        advice = "Keep it apart from the data: a backup of the one would hold the other."
        yield Step("master key's place", "warning", "in ENS_DATA_DIR", advice)


def _file(name: str, path: Path) -> Step:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        advice = "It must be there, and readable by the service account."
        return Step(name, "failed", type(error).__name__, advice)
    if os.name == "nt":
        advice = "On Windows look with `icacls`: the service account and administrators only."
        return Step(name, "skipped", "permissions are not read here", advice)
    # ens.env may be root's, and readable by the service's group (ens_install writes it so).
    open_to = mode & (0o037 if name == "ens.env" else 0o077)
    if not open_to:
        return Step(name, "ok", f"{mode & 0o777:o}")
    advice = "Others may read it: chmod 600, owned by the service account."
    status: Status = "warning" if name in ("ens.env", "database") else "failed"
    return Step(name, status, f"{mode & 0o777:o}", advice)
