"""Apple Push Notification service over HTTP/2, by provider token or by client certificate."""
