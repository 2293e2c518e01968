"""Django's settings for the console: sessions, sign-in, lockout, content security, appearance.

They hold for every process but a relay of its own, since the tables are one deployment's; what a
process serves is decided by its roles (`ens_project/urls.py`).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ens_project import __version__
from ens_project.env import EnsSettings

APPS: Final = (
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "axes",
)
# Our own leave the requests of other roles alone (apps/console/middleware.py).
_MIDDLEWARE: Final = (
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.console.middleware.ContentSecurity",
    "apps.console.middleware.Sessions",
    "apps.console.middleware.Csrf",
    "apps.console.middleware.Authentication",
    "apps.console.middleware.Messages",
    "apps.console.middleware.SignInRequired",
    "axes.middleware.AxesMiddleware",
    "apps.console.middleware.gate",
)
# allauth wants it in every process by this very name.
_ALLAUTH: Final = "allauth.account.middleware.AccountMiddleware"
CONTEXT_PROCESSORS: Final = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
    "apps.console.appearance.frame",
]


def middleware(ens: EnsSettings) -> list[str]:
    """What a process adds for the console: 20 µs a request of any role, so only where it serves."""
    return [*(_MIDDLEWARE if "console" in ens.roles else ()), _ALLAUTH]


def base_path(ens: EnsSettings) -> str:
    """The path below which the console lives, with a slash at its end."""
    return f"{ens.url_prefix}/console/"


# W003: apps.console.middleware.Csrf is Django's, for the console's requests alone.
# W006 of axes: an address is no ground to lock; a company's administrators share one.
# W005, W021: the domain's other hosts are not ours to promise for. W008: whoever ends TLS (IIS,
# nginx) redirects; Exchange and probes inside may come by plain HTTP.
_SILENCED: Final = [
    *("security.W003", "security.W005", "security.W008", "security.W021"),
    "axes.W006",
]
# Where the console is not served its middleware isn't there either, on purpose.
_SILENCED_WITHOUT: Final = ["admin.E408", "admin.E409", "admin.E410", "axes.W002", "security.W002"]


def settings_of(ens: EnsSettings) -> dict[str, Any]:
    """All settings of the console by name."""
    base = base_path(ens)
    return {
        "SILENCED_SYSTEM_CHECKS": _SILENCED + ([] if "console" in ens.roles else _SILENCED_WITHOUT),
        **_sessions(ens, base),
        **_sign_in(base),
        **_openid(),
        **_lockout(ens),
        **_content_security(ens),
        **_look(),
    }


def _sessions(ens: EnsSettings, base: str) -> dict[str, Any]:
    secure = urlsplit(ens.link_address).scheme == "https"
    return {
        "SESSION_ENGINE": "apps.administrators.sessions",
        "SESSION_COOKIE_NAME": "ens_console",
        "SESSION_COOKIE_PATH": base,
        "SESSION_COOKIE_SECURE": secure,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_AGE": ens.console_idle_minutes * 60,
        "SESSION_EXPIRE_AT_BROWSER_CLOSE": True,
        "CSRF_COOKIE_NAME": "ens_csrf",
        "CSRF_COOKIE_PATH": base,
        "CSRF_COOKIE_SECURE": secure,
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Strict",
        "CSRF_FAILURE_VIEW": "apps.console.views.csrf_failure",
        "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
        "SECURE_HSTS_SECONDS": ens.hsts_seconds,
        # Only what the console's own host name is; the parent domain belongs to others.
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": False,
        "SECURE_HSTS_PRELOAD": False,
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
    }


def _sign_in(base: str) -> dict[str, Any]:
    checks = "django.contrib.auth.password_validation."
    return {
        "AUTH_USER_MODEL": "administrators.Administrator",
        "AUTHENTICATION_BACKENDS": [
            "axes.backends.AxesStandaloneBackend",
            "allauth.account.auth_backends.AuthenticationBackend",
            "apps.administrators.directory.backend.DirectoryBackend",
        ],
        "AUTH_PASSWORD_VALIDATORS": [
            {
                "NAME": f"{checks}UserAttributeSimilarityValidator",
                "OPTIONS": {"user_attributes": ("username", "display_name")},
            },
            {"NAME": f"{checks}MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
            {"NAME": f"{checks}CommonPasswordValidator"},
            {"NAME": f"{checks}NumericPasswordValidator"},
        ],
        "LOGIN_URL": "account_login",
        "LOGIN_REDIRECT_URL": base,
        "ACCOUNT_LOGOUT_REDIRECT_URL": "account_login",
        "ACCOUNT_ADAPTER": "apps.administrators.adapters.AccountAdapter",
        "ACCOUNT_LOGIN_METHODS": {"username"},
        "ACCOUNT_SIGNUP_FIELDS": ["username*", "password1*"],
        "ACCOUNT_USER_MODEL_EMAIL_FIELD": None,
        "ACCOUNT_EMAIL_VERIFICATION": "none",
        "ACCOUNT_EMAIL_NOTIFICATIONS": False,
        "ACCOUNT_SESSION_REMEMBER": False,
        "ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE": False,
        "ACCOUNT_REAUTHENTICATION_REQUIRED": True,
        "ACCOUNT_REAUTHENTICATION_TIMEOUT": 300,
        # Behind axes' lockout, which all servers share: these are each process's own.
        "ACCOUNT_RATE_LIMITS": {"login": "60/m/ip", "login_failed": "60/m/ip,20/5m/key"},
        "ACCOUNT_FORMS": {
            "login": "apps.administrators.forms.SignInForm",
            "reauthenticate": "apps.administrators.forms.StepUpForm",
            "change_password": "apps.administrators.forms.PasswordForm",
        },
        "MFA_ADAPTER": "apps.administrators.adapters.SecondFactorAdapter",
        "MFA_SUPPORTED_TYPES": ["totp", "recovery_codes"],
        "MFA_TOTP_ISSUER": "ENS",
        "MFA_TOTP_TOLERANCE": 1,
        "MFA_TRUST_ENABLED": False,
        "MFA_FORMS": {
            "authenticate": "apps.administrators.forms.CodeForm",
            "reauthenticate": "apps.administrators.forms.CodeAgainForm",
            "activate_totp": "apps.administrators.forms.ActivateForm",
        },
    }


def _lockout(ens: EnsSettings) -> dict[str, Any]:
    hook = "apps.administrators.lockout."
    return {
        "AXES_FAILURE_LIMIT": ens.console_failures,
        "AXES_COOLOFF_TIME": f"{hook}cool_off",
        "AXES_LOCKOUT_PARAMETERS": ["username"],
        "AXES_RESET_ON_SUCCESS": True,
        "AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT": False,
        "AXES_USERNAME_FORM_FIELD": "login",
        # What was typed as a name may be a password: only its HMAC is stored.
        "AXES_USERNAME_CALLABLE": f"{hook}hidden_name",
        "AXES_CLIENT_IP_CALLABLE": f"{hook}address",
        "AXES_SENSITIVE_PARAMETERS": ["login", "username", "password", "code", "next"],
        "AXES_DISABLE_ACCESS_LOG": True,
        "AXES_ENABLE_ADMIN": False,
        "AXES_VERBOSE": False,
        "AXES_LOCKOUT_CALLABLE": f"{hook}locked_out",
        "AXES_ALLOWED_CORS_ORIGINS": "null",
    }


def openid_providers(ens: EnsSettings) -> dict[str, Any]:
    """The company's OpenID provider, if there is one, as allauth takes it."""
    app = {
        "provider_id": "company",
        "name": ens.oidc_name,
        "client_id": ens.oidc_client_id,
        "secret": ens.oidc_client_secret.get_secret_value(),
        "settings": {"server_url": ens.oidc_issuer, "oauth_pkce_enabled": True},
    }
    return {"openid_connect": {"APPS": [app] if ens.oidc_issuer else []}}


def _openid() -> dict[str, Any]:
    return {
        "SOCIALACCOUNT_ADAPTER": "apps.administrators.adapters.DirectoryAdapter",
        "SOCIALACCOUNT_STORE_TOKENS": False,
        "SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX": "",
    }


def _content_security(ens: EnsSettings) -> dict[str, Any]:
    # The button to the OpenID provider is a form that is answered with a redirect to it.
    elsewhere = [f"https://{urlsplit(ens.oidc_issuer).netloc}"] if ens.oidc_issuer else []
    return {
        "CONTENT_SECURITY_POLICY": {
            "DIRECTIVES": {
                "default-src": ["'none'"],
                # Alpine.js, which django-unfold is built on, evaluates the attributes of its
                # templates: 'unsafe-eval'. No inline script runs.
                "script-src": ["'self'", "'unsafe-eval'"],
                # The theme's colours stand in a style element, its widths in attributes.
                "style-src": ["'self'", "'unsafe-inline'"],
                "img-src": ["'self'", "data:"],
                "font-src": ["'self'"],
                "connect-src": ["'self'"],
                "form-action": ["'self'", *elsewhere],
                "base-uri": ["'none'"],
                "frame-ancestors": ["'none'"],
            }
        }
    }


def _look() -> dict[str, Any]:
    return {
        "FORMAT_MODULE_PATH": "ens_project.formats",
        "UNFOLD": {
            "SITE_TITLE": "ENS console",
            "SITE_HEADER": "Email Notification Service",
            "SITE_SUBHEADER": f"Release {__version__}",
            "SITE_SYMBOL": "mark_email_unread",
            "SITE_URL": None,
            "SHOW_HISTORY": False,
            "SHOW_VIEW_ON_SITE": False,
            "SHOW_BACK_BUTTON": True,
            "BORDER_RADIUS": "6px",
            "COLORS": {
                "primary": {
                    "50": "oklch(97% .014 254.6)",
                    "100": "oklch(93.2% .032 255.6)",
                    "200": "oklch(88.2% .059 254.1)",
                    "300": "oklch(80.9% .105 251.8)",
                    "400": "oklch(70.7% .165 254.6)",
                    "500": "oklch(62.3% .214 259.8)",
                    "600": "oklch(54.6% .245 262.9)",
                    "700": "oklch(48.8% .243 264.4)",
                    "800": "oklch(42.4% .199 265.6)",
                    "900": "oklch(37.9% .146 265.5)",
                    "950": "oklch(28.2% .091 267.9)",
                },
            },
            "SITE_FAVICONS": [
                {"rel": "icon", "type": "image/svg+xml", "href": "apps.console.appearance.icon"}
            ],
            "STYLES": ["apps.console.appearance.stylesheet"],
            "SCRIPTS": ["apps.console.appearance.script"],
            "SIDEBAR": {
                "show_search": False,
                "command_search": False,
                "show_all_applications": False,
                "navigation": "apps.console.navigation.sidebar",
            },
            "ACCOUNT": {"navigation": "apps.console.navigation.account_links"},
        },
    }
