"""What a confidential machine says of itself (AMD SEV-SNP, Intel TDX), and whether that is true.

A report is believed if its signature leads, certificate by certificate, to a root that `roots.toml` names, at the time
of asking, and if the machine's firmware and its own fields agree with those certificates. What a verified report then
has to say before it gets a key is not decided here but in `policy`.

Read in this order:

- `chain`       certificates up to a pinned root, validity, revocation
- `attested`    what a verified report says, in one form for both makers
- `sev_snp`     AMD: report and VCEK or VLEK
- `tdx`         Intel: quote versions 4 and 5, and the quoting enclave
- `tdx_tcb`     Intel: is that platform's firmware up to date, by Intel's signed collateral
- `policy`      which workload may have which data set's key

Reports are verified here as made by the vendors' machines (tests/data/vault); launching a confidential machine is not
tested in this project, since that takes the hardware.
"""
