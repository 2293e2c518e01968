"""The Cloud Notification Service itself: what speaks to APNs and FCM."""
