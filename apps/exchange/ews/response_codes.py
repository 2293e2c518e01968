"""Every response code of Exchange Web Services, put into a class on purpose.

The list is the schema's ResponseCodeType; what a code means is on its page:
https://learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode
A test compares this file with the schema and fails on a code that nobody decided about.
"""

from __future__ import annotations

from typing import Final


def _codes(text: str) -> frozenset[str]:
    return frozenset(f"Error{name}" for name in text.split())


# The user is throttled; BackOffMilliseconds may say for how long.
BUSY: Final = _codes("ServerBusy")

# The user has more calls under way than EWSMaxConcurrency: this one is refused, they go on.
TOO_MANY_CONNECTIONS: Final = _codes("ExceededConnectionCount")

# The mailbox' sessions hold as many objects open as the store permits.
TOO_MANY_OBJECTS: Final = _codes("TooManyObjectsOpened")

# What the user proves himself with is no longer good: never try it again. Few are here, since who
# is answered in SOAP at all has been let in by IIS.
CREDENTIALS: Final = _codes("PasswordChangeRequired PasswordExpired")

# The credentials are good, and the account may not do this.
FORBIDDEN: Final = _codes(
    """
    AccessDenied AccessDeniedDueToCompliance AccountDisabled AccountSuspend
    AccountSuspendShowTierUpgrade CallerIsInvalidADAccount ImpersonateUserDenied
    ImpersonationDenied ImpersonationFailed InvalidAuthorizationContext
    InvalidExchangeImpersonationHeaderData InvalidLicense InvalidLogonType
    InvalidSerializedAccessToken InvalidUserPrincipalName OrganizationAccessBlocked
    ProxyGroupSidLimitExceeded ProxyRequestNotAllowed SubscriptionAccessDenied
    SubscriptionDelegateAccessNotSupported TokenSerializationDenied
    """
)

# The user, or the address that was named, has no mailbox here.
MAILBOX_NOT_FOUND: Final = _codes(
    """
    CannotFindUser InvalidSid InvalidSmtpAddress InvalidUserSid InvalidUserSidMissingUPN
    MailRecipientNotFound MissingEmailAddress MissingExchangePrincipal
    MissingInformationEmailAddress NonExistentMailbox RecipientNotFound
    """
)

# The mailbox goes by another address than this alias; the answer names its primary one.
NON_PRIMARY: Final = _codes("NonPrimarySmtpAddress")

# The item is gone: there is nothing to tell of it.
ITEM_NOT_FOUND: Final = _codes("ItemNotFound RecoverableItemsAccessDenied VirusMessageDeleted")

# The item may be there, but can't be read: it is told of without its details.
ITEM_UNREADABLE: Final = _codes(
    """
    CannotUseFolderIdForItemId ContentConversionFailed CorruptData InvalidId InvalidIdEmpty
    InvalidIdMalformed InvalidIdMalformedEwsLegacyIdFormat InvalidIdMonikerTooLong
    InvalidIdNotAnItemAttachmentId InvalidIdStoreObjectIdTooLong
    InvalidIdTooManyAttachmentLevels InvalidIdXml ItemCorrupt ItemPropertyRequestFailed
    ObjectTypeChanged VirusDetected
    """
)

# Exchange no longer knows, or no longer feeds, the subscription: subscribe anew.
SUBSCRIPTION_GONE: Final = _codes(
    """
    EventNotFound ExpiredSubscription InvalidSubscription InvalidWatermark
    MissedNotificationEvents ReadEventsFailed SubscriptionNotFound SubscriptionUnsubscribed
    """
)

# The user's EWSMaxSubscriptions is used up for now.
TOO_MANY_SUBSCRIPTIONS: Final = _codes("ExceededSubscriptionCount")

# Exchange doesn't take this webhook URL.
URL_REFUSED: Final = _codes("InvalidPushSubscriptionUrl")

# The mailbox is being moved to another database: it comes back by itself.
MOVING: Final = _codes("MailboxMoveInProgress")

# The mailbox' database is dismounted, failing over or out of reach: it comes back by itself.
STORE_UNAVAILABLE: Final = _codes(
    """
    ConnectionFailed MailboxFailover MailboxLogonFailed MailboxStoreUnavailable
    """
)

# Trouble of the server or of the way inside it; the same request may succeed later.
TRANSIENT: Final = _codes(
    """
    ADOperation ADUnavailable AutoDiscoverFailed BatchProcessingStopped ClientDisconnected
    CrossSiteRequest DataSourceOperation GetServerSecurityDescriptorFailed
    InsufficientResources InternalServerError InternalServerTransientError
    InvalidClientSecurityContext InvalidCrossForestCredentials InvalidNetworkServiceContext
    InvalidProxySecurityContext LocalServerObjectNotFound LogonAsNetworkServiceFailed
    MailboxConfiguration NoApplicableProxyCASServersAvailable
    NoDestinationCASDueToKerberosRequirements NoDestinationCASDueToSSLRequirements
    NoOAuthServerAvailableForRequest NoRespondingCASInDestinationSite NotEnoughMemory
    ProxiedSubscriptionCallFailure ProxyCallFailed ProxyRequestProcessingFailed
    ProxyServiceDiscoveryFailed ProxySoapException ProxyTokenExpired QuotaExceeded
    RequestAborted ServiceDiscoveryFailed ServiceUnavailable TimeoutExpired
    WebRequestInInvalidState Win32InteropError
    """
)

# The server doesn't speak the version that was asked for, or can't reach one that does.
VERSION: Final = _codes(
    """
    IncorrectSchemaVersion InvalidSchemaVersionForMailboxVersion InvalidServerVersion
    NoDestinationCASDueToVersionMismatch WrongServerVersion WrongServerVersionDelegate
    """
)

# The request itself is wrong: a fault of ENS, or of a gateway that changed it on its way.
OURS: Final = _codes(
    """
    CannotUseItemIdForFolderId ContainsFilterWrongType DataSizeLimitExceeded
    DistinguishedUserNotSupported DuplicateSOAPHeader ExceededFindCountLimit FolderCorrupt
    FolderNotFound FolderPropertRequestFailed InvalidArgument InvalidChangeKey
    InvalidExcludesRestriction InvalidExtendedProperty InvalidExtendedPropertyValue
    InvalidFolderId InvalidFolderTypeForOperation InvalidFractionalPagingParameters
    InvalidIndexedPagingParameters InvalidManagementRoleHeader InvalidOperation
    InvalidPagingMaxRows InvalidParentFolder InvalidPropertyForExists
    InvalidPropertyForOperation InvalidPropertyRequest InvalidPullSubscriptionId
    InvalidRequest InvalidRestriction InvalidSubscriptionRequest InvalidValueForProperty
    MessageSizeExceeded MissingArgument ParsingXMLResponse QueryFilterTooLong
    RequestStreamTooBig RequiredPropertyMissing ResponseSchemaValidation
    RestrictionTooComplex RestrictionTooLong ResultSetTooBig SchemaValidation
    UnsupportedCulture UnsupportedMapiPropertyType UnsupportedMimeConversion
    UnsupportedPathForQuery UnsupportedPathForSortGroup UnsupportedPropertyDefinition
    UnsupportedQueryFilter UnsupportedTypeForConversion ValueOutOfRange
    """
)

# Answers to operations that ENS never calls (calendars, delegates, archives, telephony, …). One
# of them in an answer to us makes no sense; trying again is useless.
ELSEWHERE: Final = _codes(
    """
    ADSessionFilter AccessModeSpecified AccessingPartialCreatedUnifiedGroup
    AddDelegatesFailed AddressSpaceNotFound AffectedTaskOccurrencesRequired
    ApplyConversationActionFailed ArchiveFolderPathCreation ArchiveMailboxNotEnabled
    ArchiveMailboxSearchFailed ArchiveMailboxServiceDiscoveryFailed
    AttachmentNestLevelLimitExceeded AttachmentSizeLimitExceeded AvailabilityConfigNotFound
    CalendarCannotMoveOrCopyOccurrence CalendarCannotUpdateDeletedItem
    CalendarCannotUseIdForOccurrenceId CalendarCannotUseIdForRecurringMasterId
    CalendarDurationIsTooLong CalendarEndDateIsEarlierThanStartDate
    CalendarFolderIsInvalidForCalendarView CalendarForwardActionNotAllowed
    CalendarInvalidAttributeValue CalendarInvalidDayForTimeChangePattern
    CalendarInvalidDayForWeeklyRecurrence CalendarInvalidPropertyState
    CalendarInvalidPropertyValue CalendarInvalidRecurrence CalendarInvalidTimeZone
    CalendarIsCancelledForAccept CalendarIsCancelledForDecline CalendarIsCancelledForRemove
    CalendarIsCancelledForTentative CalendarIsDelegatedForAccept
    CalendarIsDelegatedForDecline CalendarIsDelegatedForRemove
    CalendarIsDelegatedForTentative CalendarIsGroupMailboxForAccept
    CalendarIsGroupMailboxForDecline CalendarIsGroupMailboxForSuppressReadReceipt
    CalendarIsGroupMailboxForTentative CalendarIsNotOrganizer CalendarIsOrganizerForAccept
    CalendarIsOrganizerForDecline CalendarIsOrganizerForRemove
    CalendarIsOrganizerForTentative CalendarMeetingRequestIsOutOfDate
    CalendarOccurrenceIndexIsOutOfRecurrenceRange CalendarOccurrenceIsDeletedFromRecurrence
    CalendarOutOfRange CalendarSeekToConditionNotSupported CalendarViewRangeTooBig
    CannotAccessDeletedPublicFolder CannotArchiveCalendarContactTaskFolderException
    CannotArchiveItemsInArchiveMailbox CannotArchiveItemsInPublicFolders
    CannotCreateCalendarItemInNonCalendarFolder CannotCreateContactInNonContactFolder
    CannotCreatePostItemInNonMailFolder CannotCreateTaskInNonTaskFolder CannotDeleteObject
    CannotDeleteTaskOccurrence CannotDisableMandatoryExtension
    CannotDownloadExtensionManifest CannotEmptyFolder CannotFindFileAttachment
    CannotGetExternalEcpUrl CannotGetSourceFolderPath CannotOpenFileAttachment
    CannotSetCalendarPermissionOnNonCalendarFolder
    CannotSetNonCalendarPermissionOnCalendarFolder CannotSetPermissionUnknownEntries
    CannotSpecifySearchFolderAsSourceFolder CannotUninstallProvidedExtensions
    ChangeKeyRequired ChangeKeyRequiredForWriteOperations ClientIntentInvalidStateDefinition
    ClientIntentNotFound ContentIndexingNotEnabled CreateItemAccessDenied
    CreateManagedFolderPartialCompletion CreateSubfolderAccessDenied CrossMailboxMoveCopy
    DelegateAlreadyExists DelegateCannotAddOwner DelegateMissingConfiguration DelegateNoUser
    DelegateValidationFailed DeleteDistinguishedFolder DeleteItemsFailed
    DeleteUnifiedMessagingPromptFailed DiscoverySearchesDisabled
    DistributionListMemberNotExist DuplicateExtendedKeywordDefinition
    DuplicateInputFolderNames DuplicateLegacyDistinguishedName
    DuplicateSenderRestrictionsInputFound DuplicateTransactionId DuplicateUserIdsSpecified
    EmailAddressMismatch ExceededMaxRecipientLimit ExceededMaxRecipientLimitBlock
    ExceededMaxRecipientLimitShowTierUpgrade ExceededMessageLimit
    ExceededMessageLimitShowTierUpgrade ExportRemoteArchiveItemsFailed
    ExtensionAlreadyInstalledForOrg ExtensionNotFound ExtensionsNotAuthorized
    FindRemoteArchiveFolderFailed FolderExists FolderSave FolderSaveFailed
    FolderSavePropertyError FreeBusyDLLimitReached FreeBusyGenerationFailed
    GetRemoteArchiveFolderFailed GetRemoteArchiveItemFailed IPGatewayNotFound
    ImContactLimitReached ImGroupDisplayNameAlreadyExists ImGroupLimitReached
    InboxRulesValidationError IncorrectUpdatePropertyCount IndividualMailboxLimitReached
    InstantSearchFailed InstantSearchSessionExpired InstantSearchTimeout InvalidAccessLevel
    InvalidAttachmentId InvalidAttachmentSubfilter InvalidAttachmentSubfilterTextFilter
    InvalidBulkActionType InvalidClientAccessTokenRequest InvalidCompleteDate
    InvalidContactEmailAddress InvalidContactEmailIndex InvalidDelegatePermission
    InvalidDelegateUserId InvalidExpressionTypeForSubFilter InvalidExtensionId
    InvalidExternalSharingInitiator InvalidExternalSharingSubscriber
    InvalidFederatedOrganizationId InvalidFederationOrganizationIdentifier
    InvalidFreeBusyViewType InvalidGetSharingFolderRequest InvalidIdReturnedByResolveNames
    InvalidImContactId InvalidImDistributionGroupSmtpAddress InvalidImGroupId
    InvalidInternetHeaderChildNodes InvalidInternetWebProxyOnLocalServer
    InvalidItemForOperationAcceptItem InvalidItemForOperationArchiveItem
    InvalidItemForOperationCancelItem InvalidItemForOperationCreateItem
    InvalidItemForOperationCreateItemAttachment InvalidItemForOperationDeclineItem
    InvalidItemForOperationExpandDL InvalidItemForOperationRemoveItem
    InvalidItemForOperationSendItem InvalidItemForOperationTentative InvalidKeepNCount
    InvalidKeepNType InvalidLatitude InvalidLikeRequest InvalidLongitude InvalidMailbox
    InvalidManagedFolderProperty InvalidManagedFolderQuota InvalidManagedFolderSize
    InvalidMergedFreeBusyInterval InvalidNameForNameResolution InvalidOofParameter
    InvalidOrganizationRelationshipForFreeBusy InvalidPercentCompleteValue
    InvalidPermissionSettings InvalidPhoneCallId InvalidPhoneNumber InvalidPhotoSize
    InvalidPropertyAppend InvalidPropertyDelete InvalidPropertySet
    InvalidPropertyUpdateSentMessage InvalidRecipientSubfilter
    InvalidRecipientSubfilterComparison InvalidRecipientSubfilterOrder
    InvalidRecipientSubfilterTextFilter InvalidRecipients InvalidReferenceItem
    InvalidReportMessageActionType InvalidRetentionTagIdGuid InvalidRetentionTagInheritance
    InvalidRetentionTagInvisible InvalidRetentionTagNone InvalidRetentionTagTypeMismatch
    InvalidRoutingType InvalidSIPUri InvalidScheduledOofDuration InvalidSecurityDescriptor
    InvalidSendItemSaveSettings InvalidSharingData InvalidSharingMessage
    InvalidSubfilterType InvalidSubfilterTypeNotAttendeeType
    InvalidSubfilterTypeNotRecipientType InvalidSweepRule InvalidSweepRuleOperationType
    InvalidSyncStateData InvalidTimeInterval InvalidUserInfo InvalidUserOofSettings
    InvalidValueForFilter IrresolvableConflict ItemSave ItemSavePropertyError
    LegacyMailboxFreeBusyViewTypeNotMerged LocationServicesDisabled
    LocationServicesInvalidRequest LocationServicesRequestFailed
    LocationServicesRequestTimedOut MailTipsDisabled MailboxDataArrayEmpty
    MailboxDataArrayTooBig MailboxHoldNotFound MailboxScopeNotAllowedWithoutQueryString
    ManagedFolderAlreadyExists ManagedFolderNotFound ManagedFoldersRootFailure
    MarketPlaceExtensionAlreadyInstalledForOrg MeetingSuggestionGenerationFailed
    MessageBlocked MessageDispositionRequired MessagePerFolderCountReceiveQuotaExceeded
    MessageSubmissionBlocked MessageTrackingNoSuchDomain MessageTrackingPermanentError
    MessageTrackingTransientError MimeContentConversionFailed MimeContentInvalid
    MimeContentInvalidBase64String MissingEmailAddressForManagedFolder
    MissingInformationReferenceItemId MissingInformationSharingFolderId
    MissingItemForCreateItemAttachment MissingManagedFolderId MissingRecipients
    MissingUserIdInformation MoreThanOneAccessModeSpecified MoveCopyFailed
    MoveDistinguishedFolder MoveUnifiedGroupPropertyFailed MultiLegacyMailboxAccess
    NameResolutionMultipleResults NameResolutionNoMailbox NameResolutionNoResults
    NewEventStreamConnectionOpened NewerExtensionAlreadyInstalled
    NewerMarketPlaceExtensionAlreadyInstalled NoCalendar NoFolderClassOverride
    NoFreeBusyAccess NoPropertyTagForCustomProperties NoPublicFolderReplicaAvailable
    NoPublicFolderServerAvailable NoRbacPermissionToInstallMarketPlaceExtensions
    NoRbacPermissionToInstallReadWriteMailboxExtensions
    NoSenderRestrictionsSettingsFoundInRequest NoSpeechDetected
    NotAllowedExternalSharingByPolicy NotDelegate NotSupportedSharingMessage
    OccurrenceCrossingBoundary OccurrenceTimeSpanTooBig
    OperationNotAllowedWithPublicFolderRoot OrganizationNotFederated OutlookRuleBlobExists
    ParentFolderIdRequired ParentFolderNotFound PermissionNotAllowedByPolicy
    PhoneNumberNotDialable PromptPublishingOperationFailed PropertyUpdate
    PropertyValidationFailure PublicFolderMailboxDiscoveryFailed PublicFolderOperationFailed
    PublicFolderRequestProcessingFailed PublicFolderServerNotFound PublicFolderSyncException
    QuotaExceededOnDelete ReadReceiptNotPending RecognizerNotInstalled
    RecurrenceEndDateTooBig RecurrenceHasNoOccurrence RemoveDelegatesFailed
    ResolveNamesInvalidFolderType ResolveNamesOnlyOneContactsFolderAllowed RulesOverQuota
    SavedItemFolderNotFound SearchFolderNotInitialized SearchQueryHasTooManyKeywords
    SearchTooManyMailboxes SendAsDenied SendMeetingCancellationsRequired
    SendMeetingInvitationsOrCancellationsRequired SendMeetingInvitationsRequired
    SenderRestrictionsUpdateFailed SentMeetingRequestUpdate SentTaskRequestUpdate
    SharingNoExternalEwsAvailable SharingSynchronizationFailed SpeechGrammarError
    StaleObject SubmissionQuotaExceeded SubscriptionsDisabledForGroup SyncFolderNotFound
    TargetDomainNotSupported TeamMailboxActiveToPendingDelete TeamMailboxErrorUnknown
    TeamMailboxFailedSendingNotifications TeamMailboxNotAuthorizedOwner TeamMailboxNotFound
    TeamMailboxNotLinkedToSharePoint TeamMailboxUrlValidationFailed TimeIntervalTooBig
    TimeZone ToFolderNotFound UMServerUnavailable UnableToGetUserOofSettings
    UnableToRemoveImContactFromGroup UnauthorizedClientAccessTokenRequest
    UnexpectedUnifiedGroupsCount UnifiedGroupAadAuthorizationRequestDenied
    UnifiedGroupAliasNamingPolicy UnifiedGroupAlreadyExists UnifiedGroupCreationDisabled
    UnifiedGroupMailboxAADCreationFailed UnifiedGroupMailboxAADDeleteFailed
    UnifiedGroupMailboxDeleteFailed UnifiedGroupMailboxNamingPolicy
    UnifiedGroupMailboxNotFound UnifiedGroupMailboxProvisionFailed
    UnifiedGroupMailboxUpdateDelayed UnifiedGroupMailboxUpdateFailed
    UnifiedGroupMailboxUpdatedPartialProperties UnifiedMessagingDialPlanNotFound
    UnifiedMessagingPromptNotFound UnifiedMessagingReportDataNotFound
    UnifiedMessagingRequestFailed UnifiedMessagingServerNotFound UnsupportedRecurrence
    UnsupportedSubFilter UnsupportedUserForExecuteSearch UpdateDelegatesFailed
    UpdatePropertyMismatch UserNotAllowedByPolicy UserNotUnifiedMessagingEnabled
    UserWithoutFederatedProxyAddress VoiceMailNotImplemented WeatherServiceDisabled
    WorkingHoursSaveFailed WorkingHoursXmlMalformed
    """
)

# Every code that is in a class.
DECIDED: Final = frozenset().union(
    *(value for value in list(globals().values()) if isinstance(value, frozenset))
)
