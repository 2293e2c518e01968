"""The console's addresses: sign-in, the switcher, and the admin site behind them."""

from __future__ import annotations

from allauth.account import views as account
from allauth.socialaccount import views as social
from django.urls import URLPattern, URLResolver, include, path

import apps.console.pages  # noqa: F401 - registers the pages
from apps.console import views
from apps.console.site import site

# Not all of allauth's: nobody signs up here, and there are no mail addresses to confirm.
urlpatterns: list[URLPattern | URLResolver] = [
    path("account/login/", account.login, name="account_login"),
    path("account/logout/", account.logout, name="account_logout"),
    path("account/inactive/", account.account_inactive, name="account_inactive"),
    path("account/again/", account.reauthenticate, name="account_reauthenticate"),
    path("account/password/", views.password_change, name="account_change_password"),
    path("account/two-step/", include("allauth.mfa.urls")),
    path("account/oidc/failed/", social.login_error, name="socialaccount_login_error"),
    path("account/oidc/cancelled/", social.login_cancelled, name="socialaccount_login_cancelled"),
    path("account/oidc/", include("allauth.socialaccount.providers.openid_connect.urls")),
    path("switch/", views.switch, name="console_switch"),
    path("", site.urls),
]
