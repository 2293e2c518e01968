"""How ENS logs in at a mail server: which scheme, with what, over whose connection.

- `offers.py`: what a server offers; the scheme is chosen from it, and no password is sent by a
  scheme that the server doesn't offer;
- `login.py`, `kerberos.py`: NTLM and Kerberos, by pyspnego;
- `bindings.py`: the TLS connection's mark in such a login, which Extended Protection asks for;
- `connection.py`: a connection that is logged in, and so serves one user only;
- `connections.py`: those of all users, of which a limited number is open.

Basic and bearer tokens log in each request: they share connections (`apps.exchange.transport`).
"""
