"""The main job, end to end, on a simulated hospital: each stage is one `lifechart` command that you could type.

Run by `make demo`. Everything it makes lies in demo/, which can be deleted.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIFECHART = Path(sys.executable).with_name("lifechart")
EHR_PORT, PORT = 8801, 8800


def main() -> None:
    """Run every stage in turn, then serve until interrupted."""
    options = _options()
    demo: Path = options.folder
    shutil.rmtree(demo, ignore_errors=True)
    os.environ |= {
        "LIFECHART_HOME": str(demo / "home"),
        "LIFECHART_INSTITUTION": "Riverbend Hospital (simulated)",
        "LIFECHART_FHIR_URL": f"http://127.0.0.1:{EHR_PORT}/fhir",
    }
    began = time.monotonic()
    hospital, dataset, model, report = (demo / name for name in ("hospital", "dataset", "model", "report"))
    stage("A hospital whose truth is known", f"simulate --lives {options.lives} --seed 7 --out {hospital}")
    stage("Its FHIR export, de-identified", f"ingest {hospital / 'fhir'} --out {dataset}")
    stage("A model of its timelines", f"train {dataset} --out {model} --size {options.size} --seed 7")
    stage(
        "What the model is worth",
        f"evaluate {dataset} --model {model} --out {report} --truth {hospital / 'truth'}",
    )
    stage("Through the gate", f"release risk --model {model} --report {report / 'report.json'}")
    sign(demo / "people")
    stage("Let out to the simulated environment", "phase risk simulation --reason 'first stage of validation'")
    stage("What the model rests on, and what rests on it", f"trace {model}")
    stage("Anyone can check the log", "ledger verify")
    print(f"\nAll stages: {time.monotonic() - began:.0f} s on {os.cpu_count()} cores.")
    if options.serve:
        serve(hospital)


def stage(title: str, command: str) -> None:
    """Run one command, showing it first and how long it took after."""
    print(f"\n\033[1m{title}\033[0m\n$ lifechart {command.replace(str(ROOT) + '/', '')}", flush=True)
    began = time.monotonic()
    code = subprocess.run([LIFECHART, *shlex.split(command)], check=False).returncode
    if code:
        raise SystemExit(f"demo: `lifechart {command}` ended with exit status {code}")
    print(f"({time.monotonic() - began:.0f} s)", flush=True)


def sign(folder: Path) -> None:
    """Have two officers sign for the first phase, each with a key of their own; the author of the model may not."""
    officers = {"dr.okafor": "medical-officer", "sam.steward": "data-steward"}
    for number, (name, office) in enumerate(officers.items()):
        key = folder / name / f"{name}.pem"
        run("person", "key", name, "--out", key)
        run("person", "add", "--key", key.with_suffix(".pub"), "--office", office, "--staff-number", f"{number:04}")
        stage(
            f"{name} signs as {office}",
            f"approve risk simulation --key {key} --office {office} --comment 'report and limits read'",
        )


def run(*arguments: str | Path) -> None:
    """Run one command without showing it."""
    subprocess.run([LIFECHART, *arguments], check=True, stdout=subprocess.DEVNULL)


def serve(hospital: Path) -> None:
    """Open accounts for a clinician and a steward, start the simulated EHR and Lifechart, and say where they are."""
    people = {"dr.reyes": "clinician", "steward": "steward"}
    passwords = {name: secrets.token_urlsafe(9) for name in people}
    for name, role in people.items():
        subprocess.run(
            [LIFECHART, "account", "add", name, "--role", role, "--password-stdin"],
            input=passwords[name],
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    ehr = subprocess.Popen([LIFECHART, "ehr", hospital / "fhir", "--port", str(EHR_PORT)])
    app = subprocess.Popen([LIFECHART, "serve", "--port", str(PORT)])
    print(f"""
\033[1mOpen\033[0m
  the simulated EHR's patients   http://127.0.0.1:{EHR_PORT}/
  a clinician's page             http://127.0.0.1:{PORT}/            user dr.reyes   password {passwords["dr.reyes"]}
  the steward's page             http://127.0.0.1:{PORT}/steward     user steward    password {passwords["steward"]}
  CDS Hooks                      http://127.0.0.1:{PORT}/cds-services
  what a sentence rests on       lifechart trace REFERENCE   (as printed with each risk; with LIFECHART_HOME=demo/home)
Stop with Ctrl-C.""")
    try:
        app.wait()
    except KeyboardInterrupt:
        pass
    finally:
        for process in (app, ehr):
            process.terminate()
            process.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=4000, help="how many lives to simulate")
    parser.add_argument("--size", default="xs", help="the model's size")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo", help="where to put everything; emptied first")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="end before the server")
    return parser.parse_args()


if __name__ == "__main__":
    main()
