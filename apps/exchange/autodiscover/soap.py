"""GetUserSettings, Autodiscover in SOAP, since Exchange 2010.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/getusersettings-operation-soap
"""

from __future__ import annotations

from apps.exchange.autodiscover import answers
from apps.exchange.errors import DEFAULT_BACK_OFF_S, MailboxNotFound, NotEws, ServerBusy
from apps.exchange.ews import soap

PATH = "/autodiscover/autodiscover.svc"

_SERVICE = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
_ADDRESSING = "http://www.w3.org/2005/08/addressing"
_NS = f"{{{_SERVICE}}}"
# The outer one first: what phones reach is what administrators have listed.
_SETTINGS = ("ExternalEwsUrl", "InternalEwsUrl")
_ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?>'
    f'<s:Envelope xmlns:s="{soap.SOAP[1:-1]}" xmlns:a="{_SERVICE}" xmlns:w="{_ADDRESSING}">'
    "<s:Header><a:RequestedServerVersion>Exchange2010</a:RequestedServerVersion>"
    f"<w:Action>{_SERVICE}/Autodiscover/GetUserSettings</w:Action><w:To>%s</w:To></s:Header>"
    "<s:Body><a:GetUserSettingsRequestMessage><a:Request>"
    "<a:Users><a:User><a:Mailbox>%s</a:Mailbox></a:User></a:Users><a:RequestedSettings>"
    + "".join(f"<a:Setting>{name}</a:Setting>" for name in _SETTINGS)
    + "</a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>"
)


def request(url: str, address: str) -> bytes:
    """Ask the service at `url` where the EWS of a mailbox are."""
    return (_ENVELOPE % (soap.text(url), soap.text(address))).encode()


def parse(raw: bytes) -> answers.Answer:
    """Read the answer. Error codes: https://learn.microsoft.com/exchange/client-developer/web-service-reference/errorcode-soap

    Raises:
        MailboxNotFound: the service knows neither the address nor where else to ask.
        ServerBusy: it is throttling.
        NotEws: any other error, or not an answer to GetUserSettings.
    """
    try:
        content = soap.body_of(answers.parse(raw))
    except soap.XmlRefused:
        raise NotEws from None
    response = content.find(f"{_NS}Response")
    if content.tag != f"{_NS}GetUserSettingsResponseMessage" or response is None:
        raise NotEws
    _check(response.findtext(f"{_NS}ErrorCode", ""))
    users = response.findall(f"{_NS}UserResponses/{_NS}UserResponse")
    if len(users) != 1:
        raise NotEws
    (user,) = users
    code = user.findtext(f"{_NS}ErrorCode", "").strip()
    if code in ("RedirectAddress", "RedirectUrl"):
        leads_to = answers.target(user.findtext(f"{_NS}RedirectTarget"))
        return answers.ToUrl(leads_to) if code == "RedirectUrl" else answers.ToAddress(leads_to)
    _check(code)
    settings = {
        setting.findtext(f"{_NS}Name", "").strip(): setting.findtext(f"{_NS}Value")
        for setting in user.iterfind(f"{_NS}UserSettings/{_NS}UserSetting")
    }
    return answers.found(settings.get(name) for name in _SETTINGS)


def _check(code: str) -> None:
    code = code.strip()
    if code in ("InvalidUser", "InvalidDomain"):
        raise MailboxNotFound
    if code == "ServerBusy":
        raise ServerBusy(DEFAULT_BACK_OFF_S)
    if code != "NoError":
        raise NotEws
