"""De-identification of DICOM files to PS3.15 Annex E, by allow-list.

Basic profile, with the options clean descriptors, retain longitudinal temporal information with modified dates, clean
pixel data and retain safe private. Read in this order: `tables` (what the standard and this project's lists say of each
attribute), `subject` (who a patient becomes: keyed id, UIDs, dates), `values` (which values may stay, and as what),
`attributes` (the walk over a data set, at every depth), `decoding` (pixels out of any transfer syntax), `lettering` and
`pixels` (text burned into an image is found and blanked, or the image is held back), `instance` (one file, whole) and
`folder` (many files, and the report).

Whatever stands neither in Table E.1-1 with a reason to stay nor on the keep-list is not written: not at the top, not in
a sequence, not in private attributes, not behind the pixels.
"""
