"""Windows' tools as far as `ens_install` asks them: they keep what they are told, and show it.

What they print has the form that their documentation shows. That the real ones print it so is not
tested here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from xml.sax.saxutils import quoteattr

from apps.operations.install.runner import Completed
from apps.operations.install.service_host import mark_file, settings_mark

MISSING = Completed(1, "", "ERROR ( message: not found )")


class FakeWindows:
    """A Runner. `commands` has all that changed something, `inputs` what went to standard input."""

    def __init__(self, *, env_file: Path, logs: Path) -> None:
        self.commands: list[list[str]] = []
        self.inputs: list[str] = []
        self.features: set[str] = set()
        self.objects: dict[tuple[str, str], dict[str, str]] = {}
        self.bindings: dict[str, list[str]] = {}
        self.unlocked: set[str] = set()
        self.anonymous: set[str] = set()
        self.fastcgi: dict[str, str] = {}
        self.certificates: dict[str, str] = {}
        self.registry: dict[str, str] = {}
        self.store: set[str] = set()
        self.services: dict[str, dict[str, str]] = {}
        self.access: dict[str, list[str]] = {}
        self.handler = True
        self.elevated = True
        self._env_file, self._logs = env_file, logs

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """See Runner."""
        words = list(argv)
        tool = PureWindowsPath(words[0]).name.removesuffix(".exe")
        known: dict[str, Callable[[list[str], str], Completed]] = {
            "appcmd": self._appcmd,
            "dism": self._dism,
            "netsh": self._netsh,
            "reg": self._reg,
            "sc": self._sc,
            "icacls": self._icacls,
            "certutil": lambda w, _: Completed(0) if w[3] in self.store else MISSING,
            "powershell": self._powershell,
            "whoami": lambda _w, _i: Completed(0, "S-1-16-12288" if self.elevated else ""),
        }
        return known.get(tool, lambda _w, _i: Completed(0))(words, input or "")

    def _changed(self, words: list[str]) -> Completed:
        self.commands.append(words)
        return Completed(0)

    def _dism(self, words: list[str], _input: str) -> Completed:
        name = next(word for word in words if "FeatureName" in word)
        if "/Enable-Feature" in words:
            self.features.add(name)
            return self._changed(words)
        return Completed(0, f"State : {'Enabled' if name in self.features else 'Disabled'}\n")

    def _appcmd(self, words: list[str], _input: str) -> Completed:
        _, verb, kind, *rest = words
        if kind == "config" and "fastCgi" in " ".join(rest):
            return self._fastcgi(verb, words)
        if kind == "config":
            return self._config(verb, rest, words)
        if kind == "module":
            return Completed(0, 'MODULE "httpPlatformHandler"') if self.handler else MISSING
        if verb == "add":
            return self._added(kind, rest, words)
        found = self.objects.get((kind, rest[0]))
        if found is None:
            return MISSING
        if verb == "delete":
            del self.objects[kind, rest[0]]
            return self._changed(words)
        name, _, value = rest[1].removeprefix("/").partition(":") if len(rest) > 1 else ("", "", "")
        if verb == "list":
            shown = found.get(value, "") if value else f'{kind.upper()} "{rest[0]}"'
            return Completed(0, f"{shown}\r\n")
        if name.startswith("+bindings"):
            made = re.findall(r"='([^']*)'", rest[1])
            found["bindings"] = ",".join([found.get("bindings", ""), f"{made[0]}/{made[1]}"])
        else:
            found[name] = value
        return self._changed(words)

    def _added(self, kind: str, rest: list[str], words: list[str]) -> Completed:
        told = dict(word.removeprefix("/").partition(":")[::2] for word in rest)
        if kind == "app":
            name = told["site.name"] + told["path"]
            self.objects["vdir", f"{name}/"] = told
        else:
            name = told["name"]
        if kind == "site":
            self.objects["app", f"{name}/"] = {}
        self.objects[kind, name] = told
        return self._changed(words)

    def _config(self, verb: str, rest: list[str], words: list[str]) -> Completed:
        app, section = rest[:2]
        kept = self.unlocked if "handlers" in section else self.anonymous
        if verb != "list":
            kept.add(app)
            return self._changed(words)
        if "handlers" in section:
            locked = str(app not in kept).lower()
            return Completed(0, f'<appcmd><CONFIG path="X" locked="{locked}" /></appcmd>')
        name = "" if app in kept else "IUSR"
        return Completed(0, f'<x><anonymousAuthentication enabled="true" userName="{name}" /></x>')

    def _fastcgi(self, verb: str, words: list[str]) -> Completed:
        if verb == "list":
            told = " ".join(f"{name}={quoteattr(value)}" for name, value in self.fastcgi.items())
            return Completed(0, f"<fastCgi>{f'<application {told} />' if told else ''}</fastCgi>")
        change = next(word for word in words if "[" in word)
        self.fastcgi = dict(re.findall(r"(\w+)='([^']*)'", change)) if "/+" in change else {}
        return self._changed(words)

    def _netsh(self, words: list[str], _input: str) -> Completed:
        where = words[4]
        if words[2] == "show":
            found = self.certificates.get(where)
            return Completed(0, f"    Zertifikathash : {found}\n") if found else MISSING
        if words[2] == "delete":
            return self._changed(words) if self.certificates.pop(where, "") else MISSING
        self.certificates[where] = words[5].removeprefix("certhash=")
        return self._changed(words)

    def _reg(self, words: list[str], _input: str) -> Completed:
        name = words[4]
        if words[1] == "query":
            value = self.registry.get(name)
            return Completed(0, f"\n    {name}    REG_DWORD    {value}\n") if value else MISSING
        if words[1] == "delete":
            del self.registry[name]
        else:
            self.registry[name] = words[words.index("/d") + 1]
        return self._changed(words)

    def _powershell(self, words: list[str], input: str) -> Completed:
        self.inputs.append(input)
        self.store = _All()
        return self._changed(words)

    def _icacls(self, words: list[str], _input: str) -> Completed:
        path, *rest = words[1:]
        if not rest:
            inherited = ["NT-AUTORITÄT\\SYSTEM:(I)(F)", "VORDEFINIERT\\Benutzer:(I)(RX)"]
            return Completed(0, "\n  ".join(self.access.get(path, inherited)))
        if rest == ["/reset"]:
            return Completed(0)
        # Granted as `:(OI)(CI)RX`, shown as `:(OI)(CI)(RX)`.
        self.access[path] = [re.sub(r"([A-Z]+)$", r"(\1)", word) for word in rest[2:]]
        return self._changed(words)

    def _sc(self, words: list[str], _input: str) -> Completed:
        verb, name = words[1], words[2]
        if verb == "create":
            self.services[name] = {"state": "1"}
        found = self.services.get(name)
        if found is None:
            return Completed(1060)
        shown = {
            "query": f"        STATE              : {found['state']}  STATE\n",
            "qc": f"BINARY : {found.get('binPath=')}\n  START_NAME : {found.get('obj=')}",
        }
        if verb.startswith("q"):
            return Completed(0, shown.get(verb) or found.get(verb, ""))
        self._sc_changed(verb, name, found, words)
        return self._changed(words)

    def _sc_changed(self, verb: str, name: str, found: dict[str, str], words: list[str]) -> None:
        match verb:
            case "create" | "config":
                found |= dict(zip(words[3::2], words[4::2], strict=True))
            case "description":
                found["qdescription"] = words[3]
            case "failure":
                delays = re.findall(r"restart/(\d+)", words[6])
                told = "".join(f"RESTART -- Delay = {delay} milliseconds.\n" for delay in delays)
                found["qfailure"] = f"RESET_PERIOD (in seconds)    : {words[4]}\n{told}"
            case "failureflag":
                found["qfailureflag"] = "FAILURE_ACTIONS_ON_NONCRASH_FAILURES: TRUE"
            case "start":
                found["state"] = "4"
                self._logs.mkdir(parents=True, exist_ok=True)
                mark_file(self._logs, name).write_text(settings_mark(self._env_file))
            case "stop":
                found["state"] = "1"
            case "delete":
                del self.services[name]


class _All(set[str]):
    def __contains__(self, _item: object) -> bool:
        return True
