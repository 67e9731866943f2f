"""Data sets at rest, encrypted, and who gets their keys.

Read in this order:

- `keys`         identities, recipients, and an external key service
- `sealed`       what an encrypted data set is on disk, and how it is read
- `encryption`   encrypt, decrypt, grant; each a statement in the ledger
- `attestation`  what a confidential machine says of itself, and whether that is true
- `release`      a data set's key to an attested workload, or a refusal with its reason

An encrypted data set is a folder of age files (https://age-encryption.org/v1) under a key of its own. That key is
wrapped for each recipient in `vault.json`. Whoever reads data sets through `data.shards` reads these too.
"""
