"""`python -m tests.fuzz [--seconds N] [TARGET …]`: the targets under atheris, one after the other.

The seconds are shared among them. Each may use 1 GiB, and an input five seconds. Prints how many
inputs each was given; ends with 1 if one broke something, which is then kept in `var/fuzz/`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import WORDS, seeds

NAMES = ("notification", "answer", "autodiscover", "jwe", "offers")
KEPT = Path("var") / "fuzz"
_EXECUTIONS = re.compile(r"number_of_executed_units: (\d+)")


def fuzz(target: str, seconds: int) -> tuple[int, str]:
    """Run one target for so long: executions, and its output if something broke."""
    with tempfile.TemporaryDirectory(prefix="ens-fuzz-") as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(target)):
            (corpus / f"seed{number}").write_bytes(seed)
        words = Path(directory) / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS), "ascii")
        KEPT.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.harness", target, str(corpus)]
        command += [f"-max_total_time={seconds}", "-rss_limit_mb=1024", "-timeout=5"]
        command += [f"-dict={words}", "-max_len=40000", "-print_final_stats=1"]
        command += [f"-artifact_prefix={KEPT}/{target}-"]
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds + 120
        )
    said = ended.stdout + ended.stderr
    found = _EXECUTIONS.search(said)
    return int(found[1]) if found else 0, said if ended.returncode else ""


def _escaped(word: str) -> str:
    raw = word.encode("utf-8", "surrogatepass")
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}" for byte in raw
    )


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("targets", nargs="*", choices=[*NAMES, []], help="default: all")
    asked = parser.parse_args()
    targets = asked.targets or NAMES
    broken = 0
    for target in targets:
        executions, said = fuzz(target, max(1, asked.seconds // len(targets)))
        _tell(f"{target}: {executions:,} executions")
        if said:
            broken = 1
            _tell(said[-6000:])
    return broken


if __name__ == "__main__":
    sys.exit(main())
