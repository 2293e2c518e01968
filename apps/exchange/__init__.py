"""What we say to a mail server, and where we may say it. No Django.

`interface` is what the rest of the house uses; `ews` implements it for Exchange. A second
implementation (Microsoft Graph) goes beside `ews`.
"""
