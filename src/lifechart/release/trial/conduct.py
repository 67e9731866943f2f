"""A trial from its opening to its result; each step is a statement, and steps that would spoil the trial are refused.

    trial = Trial(registered, folder, log, people)
    trial.open(manifest=release.manifest.digest, actor="dr.okafor")
    trial.enrol(participant, stratum="all", manifest=..., actor="nurse.li")
    trial.arm(participant)                    # only now, and never another one
    trial.record(participant, 1.0, actor="nurse.li")
    trial.look(board_member)                  # the monitoring board alone
    trial.close("planned end", actor=...); trial.conclude(actor=...); trial.reveal(actor=...)

The ledger holds keyed hashes and commitments. Outcomes lie in a file of the trial's folder, each under a digest that
the ledger holds; the allocation's secret lies in a file that only its owner reads, until it is opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lifechart.core.errors import AccessDenied, GateRefused, InputError
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Log, Receipt
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.people import Office, People
from lifechart.release.protocol import Registered
from lifechart.release.trial import allocation
from lifechart.release.trial.analysis import Comparison
from lifechart.release.trial.course import Course, Enrolled
from lifechart.release.trial.custody import Custody
from lifechart.release.trial.design import Design, Unit

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Result:
    """The arms compared as they were allotted."""

    estimate: float
    low: float
    high: float
    z: float
    """Positive when the intervention does better."""
    p: float
    num_intervention: int
    num_control: int
    num_missing: int
    """Enrolled, without an outcome."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the monitoring board sees at one look, and what the plan says of it."""

    number: int
    result: Result
    advice: str
    """`continue`, or `stop for` efficacy, futility or harm."""


class Trial:
    """One randomised trial under one registered protocol."""

    def __init__(
        self, registered: Registered, folder: Path, log: Log, people: People, clock: Clock | None = None
    ) -> None:
        design = registered.protocol.trial
        if design is None:
            raise InputError("protocol", registered.protocol.title, "the protocol of a trial")
        self.registered, self._log, self._people, self._clock = registered, log, people, clock or log.now
        self._custody = Custody(folder / registered.original)
        self.design: Design = design
        self._course, self._read = Course(), 0

    @property
    def course(self) -> Course:
        """What has happened so far; only what is new in the ledger is read."""
        original = self.registered.original
        entries = self._log.find(kind="trial", digest=original)
        for entry in entries[self._read :]:
            said = entry.statement.predicate
            if said["protocol"] == original:
                self._course.take(entry, said)
        self._read = len(entries)
        return self._course

    def open(self, *, manifest: str, actor: str, entropy: Callable[[int], bytes] = secrets.token_bytes) -> Receipt:
        """Draw the allocation's secret, commit to it, and begin; `manifest` names the release that is on trial.

        `entropy`: where the secret's bytes come from; a simulated trial that is to be told again has its own.
        """
        if self.course.opened is not None:
            raise GateRefused("trial: opened already; opening it again would draw the allocation anew")
        return self._say("opened", actor, commitment=self._custody.draw(entropy), manifest=manifest)

    def enrol(self, participant: str, *, manifest: str, actor: str, stratum: str = "all", cluster: str = "") -> Receipt:
        """Enrol for good. `participant`: a keyed hash of 64 hex digits. `manifest`: the release in use now."""
        course = self._running(manifest)
        if participant in course.enrolled:
            raise GateRefused("trial: this participant is enrolled already; nobody is randomised twice")
        if stratum not in self.design.strata:
            raise InputError("stratum", stratum, f"one of {self.design.strata}")
        if cluster not in (self.design.clusters or ("",)):
            raise InputError("cluster", cluster, f"one of {self.design.clusters or ('',)}")
        return self._say(
            "enrolled",
            actor,
            participant=participant,
            stratum=stratum,
            cluster=cluster,
            period=self._period(course),
            position=course.in_stratum(stratum),
        )

    def arm(self, participant: str) -> int:
        """Return 1 (intervention) or 0; only for somebody whose enrolment stands in the ledger."""
        course = self.course
        if participant not in course.enrolled:
            raise GateRefused("trial: not enrolled; an allocation is revealed only after irrevocable enrolment")
        return self._arms(course)[participant]

    def record(self, participant: str, outcome: float, *, actor: str) -> Receipt:
        """Record a participant's outcome, once."""
        course = self.course
        if participant not in course.enrolled:
            raise GateRefused("trial: an outcome of somebody who was never enrolled")
        if participant in course.outcomes:
            raise GateRefused("trial: this outcome is recorded already, and outcomes are not rewritten")
        if not np.isfinite(outcome):
            raise InputError("outcome", outcome, "a finite number")
        digest = self._custody.keep(participant, float(outcome))
        return self._say("outcome", actor, participant=participant, digest=digest)

    def adverse(
        self, participant: str, *, serious: bool, fatal: bool, suspected: bool, occurred: datetime, actor: str
    ) -> Receipt:
        """Report an adverse event. Its clock starts now; enough suspected serious ones pause the trial."""
        course = self.course
        if participant not in course.enrolled:
            raise GateRefused("trial: an adverse event of somebody who was never enrolled")
        now = self._clock()
        if occurred > now:
            raise InputError("occurred", occurred.isoformat(), "a time that has come")
        clocks = self.design.clocks
        due = now + clocks.due(fatal=fatal, suspected=suspected) if serious or fatal else None
        receipt = self._say(
            "adverse",
            actor,
            participant=participant,
            serious=serious or fatal,
            fatal=fatal,
            suspected=suspected,
            occurred=occurred.isoformat(),
            due=due.isoformat() if due else None,
        )
        grave = [event for event in self.course.adverse.values() if event.serious and event.suspected]
        if not course.paused and len(grave) >= clocks.pause_after:
            self._say("paused", "lifechart", reason=f"{len(grave)} serious event(s) suspected of the intervention")
        return receipt

    def reported(self, event: int, *, to: str, actor: str) -> Receipt:
        """Note that an adverse event (its ledger entry) has gone further, which stops its clock."""
        if event not in self.course.adverse:
            raise InputError("event", event, "the ledger entry of an adverse event of this trial")
        return self._say("reported", actor, event=event, to=to, when=self._clock().isoformat())

    def leave(self, participant: str, *, actor: str) -> Receipt:
        """Note that a participant withdrew; what was allotted stays allotted."""
        if participant not in self.course.enrolled:
            raise GateRefused("trial: not enrolled")
        return self._say("left", actor, participant=participant)

    def look(self, member: Signer) -> Look:
        """Compare the arms on the way; for the monitoring board, at the planned information, once each."""
        self._require_board(member)
        course = self._running()
        number = len(course.looks)
        looks = self.design.looks
        if number >= len(looks) - 1:
            raise GateRefused(f"trial: all {len(looks) - 1} interim looks are taken; the next is the final analysis")
        needed = int(np.ceil(looks[number] * self.design.participants()))
        if len(course.outcomes) < needed:
            raise GateRefused(
                f"trial: look {number + 1} is planned at {needed} outcomes and {len(course.outcomes)} are there; "
                "looking earlier is peeking"
            )
        result = self._compare(course)
        advice = self.advice(number, result.z)
        # Only what follows is logged; the figures are the board's, and can be had again from the same data.
        self._say("look", member.public.name, number=number + 1, outcomes=len(course.outcomes), advice=advice)
        if advice == "stop for harm":
            self._say("paused", "lifechart", reason=f"look {number + 1} crossed the bound for harm")
        return Look(number + 1, result, advice)

    def advice(self, number: int, z: float) -> str:
        """Return what the plan says of z at look `number` (from 0)."""
        bounds = self.design.boundaries()
        if z >= bounds.efficacy[number]:
            return "stop for efficacy"
        if z <= bounds.harm[number]:
            return "stop for harm"
        return "stop for futility" if z <= bounds.futility[number] else "continue"

    def pause(self, reason: str, *, actor: str) -> Receipt:
        """Stop enrolment until it is resumed."""
        return self._say("paused", actor, reason=_given(reason))

    def resume(self, member: Signer, reason: str) -> Receipt:
        """Go on after a pause; the monitoring board decides."""
        self._require_board(member)
        if not self.course.paused:
            raise GateRefused("trial: not paused")
        return self._say("resumed", member.public.name, reason=_given(reason))

    def close(self, reason: str, *, actor: str) -> Receipt:
        """End enrolment for good: at the planned size, or as a look advised."""
        course = self.course
        if course.closed:
            raise GateRefused("trial: closed already")
        planned = self.design.participants()
        advised = any(look["advice"] != "continue" for look in course.looks)
        if len(course.outcomes) < planned and not advised and not course.paused:
            raise GateRefused(
                f"trial: {len(course.outcomes)} of {planned} planned outcomes are there, no look advised to stop and "
                "it is not paused; ending it now would let the data choose the end"
            )
        return self._say("closed", actor, reason=_given(reason))

    def result(self) -> Result:
        """Return the final comparison; only of a trial that is closed."""
        course = self.course
        if not course.closed:
            raise GateRefused("trial: still open; before its end only the monitoring board may look")
        return self._compare(course)

    def conclude(self, *, actor: str) -> Receipt:
        """State what the trial found, against the bound of the look at which it ended; once."""
        course = self.course
        if course.concluded:
            raise GateRefused("trial: concluded already")
        result = self.result()
        advised = [look for look in course.looks if look["advice"] != "continue"]
        if advised and len(course.outcomes) < self.design.participants():
            advice = str(advised[-1]["advice"])
        elif len(course.outcomes) < self.design.participants():
            advice = "inconclusive: it ended before its planned size"
        else:
            last = self.advice(len(self.design.looks) - 1, result.z)
            advice = "stop for futility" if last == "continue" else last
        return self._say(
            "concluded",
            actor,
            manifest=course.manifest,
            advice=advice,
            estimate=result.estimate,
            interval=[result.low, result.high],
            num_intervention=result.num_intervention,
            num_control=result.num_control,
            num_missing=result.num_missing,
        )

    def reveal(self, *, actor: str) -> Receipt:
        """Open the allocation's secret, so that anybody can recompute each arm; nobody can enrol after that."""
        course = self.course
        if not course.closed:
            raise GateRefused("trial: still open; whoever knows the list could choose whom to enrol")
        return self._say("revealed", actor, secret=self._custody.secret(course.commitment).hex())

    def overdue(self) -> list[int]:
        """Return the ledger entries of adverse events whose clock has run out."""
        now = self._clock()
        events = self.course.adverse.values()
        return [event.entry for event in events if event.due and not event.reported and event.due < now]

    def _running(self, manifest: str | None = None) -> Course:
        course = self.course
        if course.opened is None:
            raise GateRefused("trial: not opened yet")
        if course.secret:
            raise GateRefused("trial: its allocation has been revealed; nobody can be enrolled after that")
        if course.closed:
            raise GateRefused(f"trial: closed ({course.closed})")
        if course.paused and manifest is not None:
            raise GateRefused(f"trial: paused ({course.paused})")
        if manifest is not None and manifest != course.manifest:
            raise GateRefused(
                f"trial: the release in use ({manifest[:16]}…) is not the one on trial ({course.manifest[:16]}…)"
            )
        return course

    def _arms(self, course: Course) -> dict[str, int]:
        """Return every participant's arm, recomputed from the secret."""
        secret, design = self._custody.secret(course.commitment), self.design
        if design.unit is Unit.INDIVIDUAL:
            return self._individual_arms(secret, course)
        if design.unit is Unit.CLUSTER:
            allotted = allocation.clusters(secret, design.clusters)
            return {each.participant: allotted[each.cluster] for each in course.enrolled.values()}
        steps = allocation.steps(secret, design.clusters, design.steps)
        return {each.participant: int(each.period >= steps[each.cluster]) for each in course.enrolled.values()}

    def _individual_arms(self, secret: bytes, course: Course) -> dict[str, int]:
        arms = {}
        lists: dict[str, Any] = {}
        for each in sorted(course.enrolled.values(), key=lambda who: who.entry):
            stream = lists.setdefault(each.stratum, allocation.blocks(secret, each.stratum, self.design.blocks))
            arms[each.participant] = next(stream)
        return arms

    def _compare(self, course: Course) -> Result:
        arms, outcomes = self._arms(course), self._custody.outcomes(course.outcomes)
        rows: list[Enrolled] = [each for each in course.enrolled.values() if each.participant in outcomes]
        design = self.design
        arm = np.array([arms[each.participant] for each in rows], dtype=np.int64)
        strata = np.array([design.strata.index(each.stratum) for each in rows], dtype=np.int64)
        clustered, wedge = design.unit is not Unit.INDIVIDUAL, design.unit is Unit.STEPPED_WEDGE
        clusters = np.array([design.clusters.index(each.cluster) if clustered else 0 for each in rows], dtype=np.int64)
        periods = np.array([each.period for each in rows], dtype=np.int64)
        comparison = Comparison(
            arm,
            clusters=clusters if clustered else None,
            periods=periods if wedge else None,
            strata=strata,
            icc=design.icc,
        )
        effect = comparison.test(np.array([outcomes[each.participant] for each in rows]))
        low, high = effect.interval()
        sign = 1 if design.higher_is_better else -1
        return Result(
            float(effect.estimate[0]),
            float(low[0]),
            float(high[0]),
            sign * float(effect.z[0]),
            float(effect.p[0]),
            int(arm.sum()),
            int(len(arm) - arm.sum()),
            len(course.enrolled) - len(rows),
        )

    def _period(self, course: Course) -> int:
        if self.design.unit is not Unit.STEPPED_WEDGE or course.opened is None:
            return 0
        opened = datetime.fromisoformat(course.opened.statement.created.replace("Z", "+00:00"))
        period = (self._clock() - opened).days // self.design.period_days
        if period > self.design.steps:
            raise GateRefused(f"trial: its {self.design.steps + 1} periods are over")
        return period

    def _require_board(self, member: Signer) -> None:
        person = self._people.all().get(member.public.name)
        known = person is not None and not person.left and person.key.raw == member.public.raw
        if person is None or not known or Office.MONITORING_BOARD not in person.offices:
            raise AccessDenied("trial: interim looks and resuming are for the monitoring board alone")

    def _say(self, step: str, actor: str, **said: object) -> Receipt:
        protocol = self.registered
        subject = Subject("protocol", protocol.digest)
        return self._log.append(
            Statement("trial", (subject,), {"protocol": protocol.original, "step": step, "actor": actor, **said})
        )


def _given(reason: str) -> str:
    if not reason.strip():
        raise InputError("reason", reason, "the reason, in a sentence")
    return reason
