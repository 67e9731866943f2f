"""The simulated EHR's front page: a plain list of its patients, each with a link to open the chart in Lifechart."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse

from lifechart.simulate.ehr_records import Known, Records
from lifechart.simulate.ehr_search import find_patients
from lifechart.simulate.identities import table

_PER_PAGE = 50
_STYLE = """
body { font: 1.1rem/1.5 system-ui, sans-serif; color: #212b32; background: #fff; margin: 0 auto; max-width: 64rem;
  padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .5rem .75rem .5rem 0; border-bottom: 1px solid #aeb7bd; vertical-align: top; }
a { color: #005eb8; }
a:focus, input:focus, button:focus { outline: 3px solid #ffb81c; outline-offset: 2px; }
input, button { font: inherit; padding: .5rem; border: 2px solid #4c6272; border-radius: 0; }
button { background: #005eb8; border-color: #005eb8; color: #fff; padding: .5rem 1rem; }
.scroll { overflow-x: auto; }
.date { white-space: nowrap; }
.hint { color: #4c6272; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def patients(request: Request, records: Records, chart_url: str) -> HTMLResponse:
    """Return the page: search by name or number, fifty to a page."""
    text = request.query_params.get("search", "").strip()
    found = find_patients(records, text) if text else records.patients
    page = request.query_params.get("page", "1")
    number = min(int(page), 1_000_000) if page.isascii() and page.isdigit() and len(page) < 8 and page != "0" else 1
    shown = found[(number - 1) * _PER_PAGE : number * _PER_PAGE]
    hospital = escape(table("identity_places")["hospital"]["name"])
    rows = "\n".join(_row(known, records.count(known.id), chart_url) for known in shown)
    last = max(1, -(-len(found) // _PER_PAGE))
    content = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Patients - {hospital} (simulated)</title>
<style>{_STYLE}</style>
</head>
<body>
<header><p>{hospital}: simulated record system. Nobody here exists.</p></header>
<main>
<h1>Patients</h1>
<form role="search" action="/" method="get">
<label for="search">Name or record number</label>
<p><input id="search" name="search" type="search" value="{escape(text)}" autocomplete="off"> <button>Search</button></p>
</form>
<p class="hint" role="status">{_summary(len(found), number, last)}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Patients">
<table>
<thead><tr><th scope="col">Name</th><th scope="col">Born</th><th scope="col">Sex</th>
<th scope="col">Record number</th><th scope="col">Entries</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
{_pages(text, number, last)}
</main>
</body>
</html>
"""
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(content, headers=headers)


def _summary(count: int, number: int, last: int) -> str:
    if not count:
        return "No patient matches."
    many = "1 patient" if count == 1 else f"{count:,} patients"
    return f"{many}, page {number} of {last}. A name opens the chart in Lifechart."


def _row(known: Known, entries: int, chart_url: str) -> str:
    link = chart_url.replace("{patient}", quote(known.id, safe=""))
    record = next((value for system, value in known.identifiers if system.endswith("/mrn")), "")
    name = escape(known.title)
    died = " (deceased)" if known.deceased else ""
    return (
        f'<tr><th scope="row"><a href="{escape(link)}">{name}</a>{died}</th>'
        f'<td class="date">{escape(known.birth_date)}</td><td>{escape(known.gender.capitalize())}</td>'
        f"<td>{escape(record)}</td><td>{entries}</td></tr>"
    )


def _pages(text: str, number: int, last: int) -> str:
    links = []
    for word, target in (("Previous page", number - 1), ("Next page", number + 1)):
        if 1 <= target <= last:
            query = urlencode([("search", text), ("page", target)] if text else [("page", target)])
            links.append(f'<a href="/?{escape(query)}">{word}</a>')
    return f'<nav aria-label="Pages"><p>{" ".join(links)}</p></nav>' if links else ""
