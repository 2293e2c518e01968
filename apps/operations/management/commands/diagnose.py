"""`manage.py diagnose`: tests this deployment step by step, with plain advice."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.diagnosis import registry
from apps.diagnosis.registry import Finding

_MARKS = {"ok": "ok     ", "warning": "WARNING", "failed": "FAILED ", "skipped": "skipped"}


class Command(BaseCommand):
    """Ends with 1 when a step failed, else with 0."""

    help = "Test this deployment step by step, with plain advice. Ends with 1 when a step failed."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--area", help="only this area, like exchange or relay")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        area = options["area"]
        if area is not None and area not in registry.areas():
            raise CommandError(f"--area: one of {', '.join(registry.areas())}")
        findings = []
        for finding in registry.run_each(area):
            findings.append(finding)
            if not options["json"]:
                self._print(finding)
        if options["json"]:
            self.stdout.write(json.dumps([_shown(one) for one in findings], indent=2))
        if registry.worst(findings) == "failed":
            raise SystemExit(1)

    def _print(self, finding: Finding) -> None:
        self.stdout.write(f"{finding.check.title} ({finding.check.name})")
        for step in finding.steps:
            self.stdout.write(f"  {_MARKS[step.status]}  {step.name}: {step.detail}".rstrip(": "))
            if step.advice:
                self.stdout.write(f"           {step.advice}")


def _shown(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check.name,
        "title": finding.check.title,
        "area": finding.check.area,
        "status": finding.status,
        "seconds": round(finding.seconds, 3),
        "steps": [
            {"name": s.name, "status": s.status, "detail": s.detail, "advice": s.advice}
            for s in finding.steps
        ],
    }
