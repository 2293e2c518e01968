"""Autodiscover: where Exchange Web Services are for a mailbox of which only the address is known.

`service` walks the places in Microsoft's order; `soap`, `pox` and `srv` speak one protocol each,
bytes out and bytes in. https://learn.microsoft.com/exchange/client-developer/exchange-web-services/autodiscover-for-exchange
"""
