"""Django's settings, all derived from `ens.env` (see `ens_project/env.py`)."""

from __future__ import annotations

import logging

import dj_database_url

from ens_project import __version__, console, env

ENS = env.load_or_exit()
ENS_VERSION = __version__
BASE_DIR = env.BASE_DIR

SECRET_KEY = ENS.secret_key.get_secret_value()
DEBUG = ENS.debug
ALLOWED_HOSTS = ENS.allowed_hosts

# A relay of its own needs only the vault and its own tables (docs/architecture: rooms).
RELAY_ONLY = ENS.roles == ["relay"]
INSTALLED_APPS = ["apps.vault", "apps.operations"]
if "relay" in ENS.roles:
    INSTALLED_APPS.append("apps.relay")
if not RELAY_ONLY:
    INSTALLED_APPS += [
        "rest_framework",
        "drf_spectacular",
        "drf_spectacular_sidecar",
        "django.contrib.staticfiles",
        "treebeard",
        "apps.eventlog",
        "apps.alerts",
        "apps.audit",
        "apps.diagnosis",
        "apps.tenants",
        "apps.keypairs",
        "apps.devices",
        "apps.history",
        "apps.cns",
        "apps.subscriptions",
        "apps.announce",
        "apps.api",
        "apps.administrators",
        "apps.console",
        *console.APPS,
    ]

MIDDLEWARE = [
    "apps.request_id.middleware",
    "apps.client_address.middleware",
    "django.middleware.security.SecurityMiddleware",
]
if not RELAY_ONLY:
    MIDDLEWARE.append("whitenoise.middleware.WhiteNoiseMiddleware")
    MIDDLEWARE += console.middleware(ENS)
    globals().update(console.settings_of(ENS))
CONSOLE_PATH = console.base_path(ENS)
SOCIALACCOUNT_PROVIDERS = console.openid_providers(ENS)

ROOT_URLCONF = "ens_project.urls"
WSGI_APPLICATION = "ens_project.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": console.CONTEXT_PROCESSORS},
    }
]

ENS.data_dir.mkdir(parents=True, exist_ok=True)
# The library's own idea of mssql:// is a back end that went out of use with Django 2.
dj_database_url.register("mssql", "mssql")(dj_database_url.stringify_port)
_sqlite = ENS.data_dir / "ens.sqlite3"
DATABASES = {
    "default": dj_database_url.parse(
        ENS.database_url.get_secret_value() if ENS.database_url else f"sqlite:///{_sqlite}",
        conn_max_age=600,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: a transaction that reads first and writes later would otherwise fail at once
    # instead of waiting. FULL: what is answered OK survives a power cut. secure_delete: a
    # shredded key leaves no trace in the file's free pages.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # A relay of its own answers for nothing that a power cut could undo but the nonces of the
        # last moment, and starting again takes longer than a signature is good for.
        "init_command": "PRAGMA journal_mode=WAL; "
        f"PRAGMA synchronous={'NORMAL' if RELAY_ONLY else 'FULL'}; "
        "PRAGMA secure_delete=ON; PRAGMA busy_timeout=20000;",
    }
    if not ENS.database_url:
        # Nobody else's to read; what SQLite makes beside it takes after it.
        _sqlite.touch(mode=0o600, exist_ok=True)
    # A file, as in life: threads of an in-memory database lock each other's tables.
    DATABASES["default"]["TEST"] = {"NAME": str(ENS.data_dir / "test.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Without bounds a host that is lost keeps the webhook waiting, and a claim its turn.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        connect_timeout=5,
        tcp_user_timeout=10_000,
        options="-c statement_timeout=15000 -c idle_in_transaction_session_timeout=15000",
    )
if DATABASES["default"]["ENGINE"] == "mssql":
    # The same bounds. Whoever calls comes again; waiting here for five times five seconds, as the
    # back end would, helps nobody.
    DATABASES["default"]["OPTIONS"] = {
        "connection_timeout": 5,
        "query_timeout": 15,
        "connection_retries": 0,
        **DATABASES["default"].get("OPTIONS", {}),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

STATIC_URL = f"{ENS.url_prefix}/static/"
STATIC_ROOT = ENS.data_dir / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# Behind listed proxies only (apps/api/addresses.py); Django itself never believes the header.
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "no-referrer"
X_FRAME_OPTIONS = "DENY"

# The largest body any view takes is a relay batch; each view has its own, lower limit.
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ENS device API",
    "DESCRIPTION": "What a mail app calls. The guide with worked examples: docs/device-api.md.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "PREPROCESSING_HOOKS": ["apps.api.admin.openapi.device_paths"],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "apiToken": {
                "type": "http",
                "scheme": "bearer",
                "description": "The ENSAPIToken of the app's configuration.",
            },
            "deviceSecret": {
                "type": "http",
                "scheme": "bearer",
                "description": "The device_secret that subscribe answered.",
            },
        }
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": f"{ENS.url_prefix}/api/ens",
}

_log_lines = {"class": "logging.StreamHandler", "formatter": ENS.log_format}
_log_files = {
    "class": "apps.operations.logs.FolderHandler",
    "formatter": ENS.log_format,
    "folder": ENS.log_dir,
    "days": ENS.log_days,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "apps.operations.logs.LineFormatter"},
        "json": {"()": "apps.operations.logs.JsonFormatter"},
    },
    "handlers": {"lines": _log_files if ENS.log_dir else _log_lines},
    "root": {"handlers": ["lines"], "level": ENS.log_level},
    "loggers": {
        # Django's request logger writes paths only, but a traceback page would hold the body.
        "django.request": {"level": "ERROR"},
        # A task's INFO lines cost more than the task (DESIGN.md, section 8).
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        # What its INFO lines say is in the audit log.
        "axes": {"level": "WARNING"},
        # Its lines hold the URLs that alerts go to, with their passwords.
        "apprise": {"level": "CRITICAL", "propagate": False},
        "urllib3": {"level": "ERROR"},
        # Below that it writes whole requests: content, device tokens.
        "botocore": {"level": "ERROR"},
    },
}
# A log call that fails would print its arguments, whatever they hold.
logging.raiseExceptions = DEBUG

# --- Celery: messages are pokes, the truth is in the event log and the database -------------
CELERY_BROKER_URL = ENS.broker_url.get_secret_value()
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_DEFAULT_QUEUE = "housekeeping"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if CELERY_BROKER_URL.startswith("filesystem:"):
    _broker = ENS.data_dir / "broker"
    for _folder in ("messages", "control"):
        (_broker / _folder).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT = "ens_project.folder_broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker / "messages"),
        "data_folder_out": str(_broker / "messages"),
        "control_folder": str(_broker / "control"),
        # A look costs as much as a tenth of an announcement. A drain that runs needs no poke, and
        # for two seconds after the last mail it runs: mail doesn't wait for this, joins do.
        "polling_interval": 0.1,
    }
elif CELERY_BROKER_URL.startswith("sentinel:"):
    # Sentinel's name for the master stands behind the addresses; kombu wants it apart.
    CELERY_BROKER_URL, _, _service = CELERY_BROKER_URL.partition("?service=")
    CELERY_BROKER_TRANSPORT_OPTIONS = {"master_name": _service, "socket_timeout": 10}

# Beat pokes too, so that a lost message delays by a second and nothing more.
CELERY_BEAT_SCHEDULE = {
    "drain": {
        "task": "announce.drain",
        "schedule": 1.0,
        "options": {"queue": "drain", "expires": 5},
    },
    "join": {
        "task": "subscriptions.join",
        "schedule": 1.0,
        "options": {"queue": "join", "expires": 5},
    },
    "wake": {
        "task": "subscriptions.wake",
        "schedule": 1.0,
        "options": {"expires": 5},
    },
    "scan": {
        "task": "subscriptions.scan",
        "schedule": max(1.0, 60.0 / ENS.lab_clock_scale),
        "options": {"expires": 60},
    },
    "keypairs": {"task": "keypairs.rotate", "schedule": 60.0, "options": {"expires": 60}},
    "attempts": {
        "task": "api.forget_attempts",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "alerts": {"task": "alerts.send", "schedule": 10.0, "options": {"expires": 10}},
    "sessions": {
        "task": "administrators.housekeeping",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "directory": {
        "task": "administrators.directory",
        "schedule": 900.0,
        "options": {"expires": 900},
    },
    "audit": {"task": "audit.purge", "schedule": 3600.0, "options": {"expires": 3600}},
    "history": {"task": "history.housekeeping", "schedule": 60.0, "options": {"expires": 60}},
    "housekeeping": {
        "task": "subscriptions.housekeeping",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
}
# Every server may run a beat: the one that holds the lease sends.
CELERY_BEAT_SCHEDULER = "apps.operations.beat:Scheduler"
CELERY_BEAT_SCHEDULE_FILENAME = str(ENS.data_dir / "beat-schedule")
