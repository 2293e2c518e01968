"""What came of a chaos run: the figures, and whether the promise was kept."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.lab.announced import Mail, first_arrivals
from apps.lab.chaos.faults import Happened
from apps.lab.phone import Push

# A mail that came so shortly before a fault may still have been on its way.
BEFORE_S = 2.0
DUPLICATES_AT_MOST = 0.01
# A push may have been counted as arrived a little after the fault that lost its answer.
ON_ITS_WAY_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """The figures. `recoveries`: seconds from a fault's begin until all was announced again.

    A fault's recovery is None when a mail it met was lost. `latencies` are seconds from arrival
    in Exchange to APNs, one for each announced mail, its last phone. `repeats` counts pushes of
    an item that had been pushed before, by the fault they most likely came from.
    """

    seed: int
    sent: int
    announced: int
    duplicates: int
    recoveries: list[tuple[Happened, float | None]]
    latencies: list[float] = field(repr=False)
    lost_mails: list[Mail] = field(repr=False)
    repeats: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """Mails that were not announced on every phone of their user."""
        return self.sent - self.announced

    @property
    def kept(self) -> bool:
        """Whether nothing was lost, little repeated and every planned fault carried out."""
        carried_out = all(not fault.trouble for fault, _ in self.recoveries)
        few = self.duplicates <= DUPLICATES_AT_MOST * self.sent
        return self.lost == 0 and few and carried_out

    def as_json(self) -> dict[str, Any]:
        """The last line of `make chaos JSON=1`; times in seconds."""
        times = [seconds for _, seconds in self.recoveries if seconds is not None]
        return {
            "sent": self.sent,
            "announced": self.announced,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "faults": len(self.recoveries),
            "recovery_s": {
                "median": round(statistics.median(times), 1) if times else None,
                "max": round(max(times), 1) if times else None,
            },
        }

    def table(self) -> str:
        """The figures for people."""
        ordered = sorted(self.latencies)
        lines = [f"  {'at':>6}  {'fault':<18} {'lasted':>8} {'recovered after':>16}"]
        first = min((fault.began for fault, _ in self.recoveries), default=0.0)
        for fault, seconds in self.recoveries:
            after = "never" if seconds is None else f"{seconds:.1f} s"
            lines.append(
                f"  {fault.began - first:5.1f}s  {fault.name:<18} "
                f"{fault.ended - fault.began:6.1f} s {after:>16}  {fault.trouble}"
            )
        lines += ["", f"sent        {self.sent}", f"announced   {self.announced}"]
        lines += [f"lost        {self.lost}", f"duplicates  {self.duplicates}"]
        if ordered:
            middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
            lines.append(
                f"latency     p50 {middle:.2f} s, p95 {late:.2f} s, max {ordered[-1]:.2f} s"
            )
        lines += [f"  repeated for {name}: {count}" for name, count in self.repeats.most_common()]
        lines += [f"seed        {self.seed}", f"promise     {'kept' if self.kept else 'BROKEN'}"]
        return "\n".join(lines)


def judge(
    seed: int,
    mails: Sequence[Mail],
    pushes: Mapping[str, Sequence[Sequence[Push]]],
    faults: Iterable[Happened],
) -> Outcome:
    """Compare what was sent with what arrived; `pushes` are those of each phone, by user."""
    known = sorted(faults, key=lambda fault: fault.began)
    done = completed(mails, pushes)
    total = sum(
        push.kind == "announcement" for owned in pushes.values() for one in owned for push in one
    )
    pairs = sum(
        len(first_arrivals(one, of_user(mails, user)))
        for user, owned in pushes.items()
        for one in owned
    )
    return Outcome(
        seed=seed,
        sent=len(mails),
        announced=len(done),
        duplicates=total - pairs,
        recoveries=[(fault, _recovery(fault, mails, done)) for fault in known],
        latencies=[done[mail.subject] - mail.at for mail in mails if mail.subject in done],
        lost_mails=[mail for mail in mails if mail.subject not in done],
        repeats=_repeats(pushes, known),
    )


def _repeats(
    pushes: Mapping[str, Sequence[Sequence[Push]]], faults: Sequence[Happened]
) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in (phone for owned in pushes.values() for phone in owned):
        first: dict[str, float] = {}
        for push in one:
            if push.kind != "announcement":
                continue
            if push.item in first:
                found[_cause(first[push.item], push.at, faults)] += 1
            first.setdefault(push.item, push.at)
    return found


def _cause(first: float, again: float, faults: Sequence[Happened]) -> str:
    """The fault that most likely kept us from knowing of the first push.

    A push is repeated when its answer or its mark was lost, so that is the fault which began soon
    after it; the repeat itself may come half a minute later, when a lease has run out.
    """
    # A kill happens somewhere between its begin and its end.
    met = [f for f in faults if f.began <= again and f.ended >= first - ON_ITS_WAY_S]
    nearest = min(met, key=lambda f: (max(0.0, f.began - first), -f.began), default=None)
    return nearest.name if nearest is not None else "nothing"


def completed(
    mails: Sequence[Mail], pushes: Mapping[str, Sequence[Sequence[Push]]]
) -> dict[str, float]:
    """When each mail had been announced on all phones of its user, by subject."""
    found: dict[str, float] = {}
    for user, owned in pushes.items():
        mine = of_user(mails, user)
        arrived = [first_arrivals(one, mine) for one in owned]
        for mail in mine:
            if all(mail.subject in one for one in arrived):
                found[mail.subject] = max(one[mail.subject] for one in arrived)
    return found


def of_user(mails: Sequence[Mail], user: str) -> list[Mail]:
    """The mails of one user, oldest first."""
    return [mail for mail in mails if mail.user == user]


def _recovery(fault: Happened, mails: Sequence[Mail], done: Mapping[str, float]) -> float | None:
    """From the fault's begin until the last mail that came around it was announced."""
    met = [mail for mail in mails if fault.began - BEFORE_S <= mail.at <= fault.ended]
    if any(mail.subject not in done for mail in met):
        return None
    return max((done[mail.subject] - fault.began for mail in met), default=0.0)
