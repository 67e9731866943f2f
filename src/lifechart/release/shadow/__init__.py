"""Shadow: answers about living people that nobody on the ward can read before it is known whether they were right.

Read `sealing` (how an answer is kept from sight), then `course` (what the ledger says of a shadow period), then `queue`
(where answer and record disagree, and who said which was wrong).
"""
