"""Stories told by the product itself on a simulated hospital: `stages`, a capability from off to public and back.

Read `story` (calendar, chapters, refusals), `ward` (the hospital's records as of a day, and the house that serves it),
then the chapters: `foundation`, `ascent`, `change`. Nothing here decides anything: each deed is the product's own.
"""
