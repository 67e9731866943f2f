"""Re-identification risk of a data set, as a page that an expert-determination reviewer can sign.

Read in this order: `identifiers` (what somebody could know, and who: identifiers.toml), `classes` (who looks alike, and
prosecutor, journalist and marketer risk), `population` (from the sample to the people it came from), `fingerprints`
(how many events single a person out), `remedies` (what would lower it), `assess` (all of it), `page`, `signature`.
"""

from lifechart.data.deidentify.risk.assess import Assessment, assess

__all__ = ["Assessment", "assess"]
