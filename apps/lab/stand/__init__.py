"""The stand: sets up ENS and the lab in a directory of their own, starts them and keeps them up.

It does what an operator would do by hand: management commands, an `ens.env` for each side, one
real process for each part. It imports no other room of ENS.
"""
