"""`manage.py ens_install`: makes a deployment, or adds a server to one, on Linux and Windows.

It runs before there is an `ens.env`, so nothing here may touch Django's database: what needs it is
a management command that runs as a process of its own (`common.py`).
"""
