"""Exchange Web Services: one file an operation, each with its request and its answer.

Reference: https://learn.microsoft.com/exchange/client-developer/web-service-reference/
"""
