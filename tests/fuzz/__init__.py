"""What comes from outside, made up by machines: parsers must answer or refuse, nothing else.

`targets.py` names the parsers and what they may do, `seeds.py` what inputs begin from,
`mutate.py` how XML is changed. `test_fuzz.py` runs some of it with every test run; for longer,
on Linux, guided by which code an input reaches:

    python -m tests.fuzz --seconds 600

An input that breaks something is kept in `var/fuzz/`; make a test of it in `test_fuzz.py`.
"""
