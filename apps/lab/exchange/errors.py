"""What an EWS operation answers when it can't do what was asked.

Codes and texts: https://learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode
"""

from __future__ import annotations

from collections.abc import Mapping

_TEXTS = {
    "ErrorAccessDenied": "Access is denied. Check credentials and try again.",
    "ErrorChangeKeyRequired": "An operation required a change key, but none was given.",
    "ErrorExceededConnectionCount": "You have exceeded the available concurrent connections.",
    "ErrorExceededSubscriptionCount": "You have exceeded the available subscriptions.",
    "ErrorFolderNotFound": "The specified folder could not be found in the store.",
    "ErrorImpersonateUserDenied": "The account does not have permission to impersonate.",
    "ErrorIncorrectSchemaVersion": "The request was valid for the server, not for its version.",
    "ErrorInternalServerError": "An internal server error occurred. The operation failed.",
    "ErrorInvalidChangeKey": "The change key is invalid.",
    "ErrorInvalidIdMalformed": "Id is malformed.",
    "ErrorInvalidItemForOperationCreateItem": "The item type can not be created.",
    "ErrorInvalidNameForNameResolution": "The name to resolve is invalid.",
    "ErrorInvalidOperation": "The operation is not supported by this server.",
    "ErrorInvalidPagingMaxRows": "The maximum number of rows must be above zero.",
    "ErrorInvalidPropertySet": "Set action is invalid for property.",
    "ErrorInvalidPullSubscriptionId": "A push subscription ends by answering its notification.",
    "ErrorInvalidPushSubscriptionUrl": "The push subscription URL is invalid.",
    "ErrorInvalidRecipients": "At least one recipient isn't valid.",
    "ErrorInvalidServerVersion": "The specified server version is invalid.",
    "ErrorInvalidSubscriptionRequest": "This server offers push subscriptions only.",
    "ErrorInvalidValueForProperty": "The specified value is invalid for property.",
    "ErrorInvalidWatermark": "The watermark used for creating this subscription was not found.",
    "ErrorIrresolvableConflict": "The send or update operation could not be performed because "
    "the change key passed in the request does not match the current change key for the item.",
    "ErrorItemNotFound": "The specified object was not found in the store.",
    "ErrorMailboxFailover": "Mailbox access failed because the mailbox is failing over.",
    "ErrorMailboxMoveInProgress": "Mailbox move in progress. Try again later.",
    "ErrorMailboxStoreUnavailable": "The mailbox database is temporarily unavailable.",
    "ErrorMissingEmailAddress": "The account has no mailbox on this system.",
    "ErrorNameResolutionMultipleResults": "Multiple results were found.",
    "ErrorNameResolutionNoResults": "No results were found.",
    "ErrorNonExistentMailbox": "The SMTP address has no mailbox associated with it.",
    "ErrorNonPrimarySmtpAddress": "The primary SMTP address must be specified when referencing a "
    "mailbox.",
    "ErrorPasswordExpired": "The password has expired.",
    "ErrorReadEventsFailed": "Unable to retrieve events for this subscription. "
    "The subscription must be recreated.",
    "ErrorRestrictionTooLong": "The restriction has more than 255 nodes.",
    "ErrorSchemaValidation": "The request failed schema validation.",
    "ErrorSendAsDenied": "The user account which was used to submit this request does not have "
    "the right to send mail on behalf of the specified sending account.",
    "ErrorServerBusy": "The server cannot service this request right now. Try again later.",
    "ErrorStaleObject": "The change key is not up to date.",
    "ErrorSubscriptionAccessDenied": "The subscription was created by another account.",
    "ErrorSubscriptionNotFound": "Subscription not found.",
    "ErrorSubscriptionUnsubscribed": "The client has unsubscribed.",
    "ErrorTooManyObjectsOpened": "Too many objects are open.",
    "ErrorToFolderNotFound": "The destination folder does not exist.",
    "ErrorUnsupportedPathForQuery": "The property can not be used with this type of restriction.",
    "ErrorUnsupportedPathForSortGroup": "The property can not be used for sorting.",
    "ErrorUnsupportedQueryFilter": "The restriction is not supported.",
}


def says(code: str) -> bool:
    """Whether this server ever says that code."""
    return code in _TEXTS


class EwsError(Exception):
    """One response code, with what `MessageXml` carries beside it (name to value).

    Raises KeyError for a code that this server never says.
    """

    def __init__(self, code: str, values: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = _TEXTS[code]
        self.values = dict(values or {})


class NotSoap(Exception):
    """The request's body isn't a SOAP envelope; Exchange answers HTTP 400."""
