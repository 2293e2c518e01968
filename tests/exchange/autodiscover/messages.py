"""Answers of Autodiscover as Microsoft's pages show them."""

from __future__ import annotations

URL = "https://mail.example.com/EWS/Exchange.asmx"
INNER = "https://inner.example.com/EWS/Exchange.asmx"


def soap(user: str, code: str = "NoError") -> bytes:
    """An envelope around what is said of one user."""
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header><a:Action s:mustUnderstand="1">'
        "http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/"
        "GetUserSettingsResponse</a:Action><h:ServerVersionInfo "
        'xmlns:h="http://schemas.microsoft.com/exchange/2010/Autodiscover">'
        "<h:MajorVersion>15</h:MajorVersion></h:ServerVersionInfo></s:Header><s:Body>"
        "<GetUserSettingsResponseMessage "
        'xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover">'
        '<Response xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'
        f"<ErrorCode>{code}</ErrorCode><ErrorMessage/><UserResponses>{user}</UserResponses>"
        "</Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"
    ).encode()


def settings(**values: str) -> bytes:
    """Settings by their name."""
    inside = "".join(
        f'<UserSetting i:type="StringSetting"><Name>{name}</Name><Value>{value}</Value>'
        "</UserSetting>"
        for name, value in values.items()
    )
    return soap(
        "<UserResponse><ErrorCode>NoError</ErrorCode><ErrorMessage>No error.</ErrorMessage>"
        f'<RedirectTarget i:nil="true"/><UserSettingErrors/><UserSettings>{inside}</UserSettings>'
        "</UserResponse>"
    )


def user_error(code: str, target: str = "") -> bytes:
    """What one user gets instead of settings."""
    return soap(
        f"<UserResponse><ErrorCode>{code}</ErrorCode><ErrorMessage>x</ErrorMessage>"
        f"<RedirectTarget>{target}</RedirectTarget><UserSettingErrors/><UserSettings/>"
        "</UserResponse>"
    )


def pox(account: str, schema: str = "outlook/responseschema/2006a") -> bytes:
    """An answer in plain old XML."""
    base = "http://schemas.microsoft.com/exchange/autodiscover"
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<Autodiscover xmlns="{base}/responseschema/2006"><Response xmlns="{base}/{schema}">'
        f"{account}</Response></Autodiscover>"
    ).encode()


def protocol(kind: str, **values: str) -> str:
    """One protocol of an account."""
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return f"<Protocol><Type>{kind}</Type>{inside}</Protocol>"


def account(*protocols: str, action: str = "<Action>settings</Action>") -> bytes:
    """An account with these protocols."""
    return pox(
        "<User><DisplayName>Anna</DisplayName></User><Account><AccountType>email</AccountType>"
        f"{action}{''.join(protocols)}</Account>"
    )


_ENTITY = '<!DOCTYPE l [<!ENTITY a "x">]><l>&a;</l>'
BOMBS = {
    "billion laughs": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + b"".join(
        b'<!ENTITY %c "&%c;&%c;&%c;&%c;&%c;&%c;&%c;&%c;&%c;&%c;">' % (n, *([n - 1] * 10))
        for n in range(ord("b"), ord("k"))
    )
    + b"]><l>&j;</l>",
    "quadratic": b'<!DOCTYPE l [<!ENTITY a "'
    + b"x" * 50_000
    + b'">]><l>'
    + b"&a;" * 50_000
    + b"</l>",
    "external": b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/hostname">]><l>&a;</l>',
    "parameter": b'<!DOCTYPE l [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]><l/>',
    "dtd": b'<!DOCTYPE l SYSTEM "http://127.0.0.1:9/x.dtd"><l/>',
    "utf-16": ('<?xml version="1.0" encoding="utf-16"?>' + _ENTITY).encode("utf-16"),
    "utf-7": b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE l+AD4-<l/>',
    "deep": b"<a>" * 60_000 + b"</a>" * 2_000,
    "many attributes": b"<a " + b" ".join(b'a%d=""' % n for n in range(20_000)) + b"/>",
    "many namespaces": b"".join(b'<a xmlns:n%d="u">' % n for n in range(5000)),
    "many elements": b"<a>" + b"<b/>" * 60_000 + b"</a>",
    "too large": b"<a>" + b"x" * 300_000 + b"</a>",
    "nothing": b"",
    "html": b"<!doctype html><html><body>Sign in</body></html>",
}
