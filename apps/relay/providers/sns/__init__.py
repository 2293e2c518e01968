"""Amazon SNS mobile push, for deployments in the cloud that reach APNs or FCM through it."""
