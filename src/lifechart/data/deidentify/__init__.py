"""What makes records safe to train on.

`structured` (ids, codes, values, ZIPs) and `dates` (times, ages) are for everything; `text` is for prose, `dicom` for
images; `risk` says how likely somebody is to be recognised all the same.
"""
